// Imports a HAR with the code of Chromium's own developer tools, and prints what
// the network panel would show, as JSON.
//   node devtools.js FILE
import { spawn } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import WebSocket from 'ws'

const har = readFileSync(process.argv[2], 'utf8')
const home = mkdtempSync(join(tmpdir(), 'devtools-'))
const browser = spawn('chromium', [
  '--headless', '--no-sandbox', '--disable-gpu', '--disable-dev-shm-usage', '--no-first-run',
  '--disable-background-networking', '--disable-component-update', '--disable-sync', '--no-proxy-server',
  '--remote-debugging-port=0', '--remote-allow-origins=*', '--user-data-dir=' + home, 'about:blank',
], { stdio: 'ignore', env: { ...process.env, HOME: home } })
const sleep = ms => new Promise(resolve => setTimeout(resolve, ms))

// poll calls f until it has a value.
async function poll (f, what) {
  for (let i = 0; i < 300; i++) {
    try {
      const value = await f()
      if (value) return value
    } catch {}
    await sleep(100)
  }
  throw new Error('no ' + what)
}

async function run () {
  const port = await poll(() => readFileSync(join(home, 'DevToolsActivePort'), 'utf8').split('\n')[0], 'port')
  const base = `127.0.0.1:${port}`
  const page = await poll(async () =>
    (await (await fetch(`http://${base}/json`)).json()).find(t => t.type === 'page'), 'page')
  const front = `http://${base}/devtools/inspector.html?ws=${base}/devtools/page/${page.id}`
  const tools = await (await fetch(`http://${base}/json/new?${encodeURIComponent(front)}`, { method: 'PUT' })).json()
  const ws = new WebSocket(tools.webSocketDebuggerUrl)
  await new Promise((resolve, reject) => { ws.onopen = resolve; ws.onerror = reject })
  const answers = new Map()
  ws.onmessage = e => {
    const m = JSON.parse(e.data)
    answers.get(m.id)?.(m)
  }
  let id = 0
  const evaluate = expression => new Promise(resolve => {
    answers.set(++id, resolve)
    ws.send(JSON.stringify({ id, method: 'Runtime.evaluate', params: { expression, awaitPromise: true, returnByValue: true } }))
  })
  const imported = await poll(async () => {
    const { result } = await evaluate(`(async () => {
      const HAR = await import('./models/har/har.js')
      const log = new HAR.HARFormat.HARRoot(JSON.parse(${JSON.stringify(har)})).log
      return JSON.stringify(HAR.Importer.Importer.requestsFromHARLog(log).map(r => ({
        url: r.url(), type: r.resourceType().name(), status: r.statusCode, remote: r.remoteAddress(), conn: r.connectionId,
        frames: r.frames().map(f => ({ type: f.type, opcode: f.opCode, time: f.time, data: f.text })),
      })))
    })()`)
    if (result.exceptionDetails) process.exitCode = 1
    return result.exceptionDetails ? null : result.result.value
  }, 'developer tools that import this')
  process.exitCode = 0
  console.log(imported)
  ws.close()
}

try {
  await run()
} catch (err) {
  console.error(err.message)
  process.exitCode = 1
} finally {
  const ended = new Promise(resolve => browser.on('exit', resolve))
  browser.kill()
  await ended
  rmSync(home, { recursive: true, force: true, maxRetries: 5 })
}

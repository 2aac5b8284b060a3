// usage: node client.js '{"url": "wss://...", "say": ["..."]}'
// Prints one JSON object, see ../job.go. NODE_EXTRA_CA_CERTS names the roots.
import { readFileSync } from "node:fs";
import WebSocket from "ws";

const PATIENCE = 3000; // ms without an answer to one message
const job = JSON.parse(process.argv[2]);
const version = JSON.parse(readFileSync(new URL("./node_modules/ws/package.json", import.meta.url))).version;
const report = { client: `ws ${version} on node ${process.versions.node}`, checks: {}, said: [], heard: [] };

function finish() {
  // process.exit does not wait for more than a pipe takes at once.
  process.stdout.write(JSON.stringify(report) + "\n", () => process.exit(0));
}

const BINARY = "base64:"; // what the texts of a job and a report begin with that stand for a binary message
const offers = {
  // With a threshold of 0 nothing is too short to be compressed.
  default: { threshold: 0 },
  each: { threshold: 0, serverNoContextTakeover: true, clientNoContextTakeover: true },
  none: false,
};
const ws = new WebSocket(job.url, job.protocols || [], { handshakeTimeout: 10000, perMessageDeflate: offers[job.offer || "default"] });
const closed = new Promise((resolve) => {
  ws.on("close", (code, reason) => {
    report.close = { code, reason: reason.toString() };
    resolve();
  });
});
ws.on("unexpected-response", (request, response) => {
  report.status = response.statusCode;
  report.error = `unexpected response ${response.statusCode}`;
  finish();
});
ws.on("error", (error) => {
  report.error = `${error.code || ""} ${error.message}`.trim();
  if (ws.readyState !== WebSocket.OPEN) finish();
});

// next waits for one event, a close or the end of our patience (null).
function next(event) {
  if (ws.readyState !== WebSocket.OPEN) return null;
  return new Promise((resolve) => {
    const timer = setTimeout(() => done(null), PATIENCE);
    const got = (...args) => done(args);
    const gone = () => done(null);
    function done(value) {
      clearTimeout(timer);
      ws.off(event, got);
      ws.off("close", gone);
      resolve(value);
    }
    ws.once(event, got);
    ws.once("close", gone);
  });
}

// ignore takes the error of sending on a closed connection: next has told.
function ignore() {}

async function echo(data) {
  const answer = next("message");
  ws.send(data, ignore);
  const got = await answer;
  return got !== null && got[1] === Buffer.isBuffer(data) && Buffer.compare(got[0], Buffer.from(data)) === 0;
}

// note adds a message to what was heard. What looks like JSON has to be JSON.
function note(data, binary) {
  if (data.toString().startsWith("{")) {
    try {
      JSON.parse(data);
    } catch (error) {
      report.error = error.message;
    }
  }
  report.heard.push(binary ? BINARY + data.toString("base64") : data.toString());
}

// burst sends all texts at once and notes what comes up to the last of them,
// a close or the end of our patience.
function burst(texts) {
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, PATIENCE);
    ws.on("close", resolve);
    ws.on("message", (data, binary) => {
      timer.refresh();
      note(data, binary);
      if (report.heard.at(-1) === texts.at(-1)) {
        ws.removeAllListeners("message");
        resolve();
      }
    });
    for (const text of texts) {
      ws.send(text.startsWith(BINARY) ? Buffer.from(text.slice(BINARY.length), "base64") : text, ignore);
    }
  });
}

ws.on("open", async () => {
  report.protocol = ws.protocol;
  report.extensions = ws.extensions;
  report.checks.text = await echo("text with \u00fcmlauts, \u4e16\u754c and \u{1f600}");
  report.checks.binary = await echo(Buffer.from(Array.from({ length: 256 }, (_, i) => i)));
  report.checks.big = await echo(Buffer.alloc(70 * 1024, "70 KB "));
  const whole = next("message");
  for (const part of ["frag", "men", "ted"]) ws.send(part, { fin: part === "ted" }, ignore);
  const got = await whole;
  report.checks.fragmented = got !== null && got[0].toString() === "fragmented";
  const pong = next("pong");
  ws.ping("are you there", true, ignore);
  const answer = await pong;
  report.checks.ping = answer !== null && answer[0].toString() === "are you there";
  for (const text of job.say || []) report.said.push(await echo(text));
  if (job.burst) await burst(job.burst);
  if (job.end) ws.send(job.end, ignore);
  else ws.close(1000, "done");
  await closed;
  finish();
});

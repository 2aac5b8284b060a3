// usage: node server.js '{"addresses": ["10.88.2.10"], "port": 443, "certificate": "FILE", "key": "FILE"}'
// Sends every message back. Prints one line of JSON when it listens and one for
// each connection that has ended, see ../server.go.
import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { createServer } from "node:https";
import { once } from "node:events";
import { WebSocketServer } from "ws";

const job = JSON.parse(process.argv[2]);
// With a threshold of 0 nothing is too short to be compressed.
const wss = new WebSocketServer({ noServer: true, perMessageDeflate: { threshold: 0 } });

wss.on("connection", (ws, request) => {
  const served = { path: request.url, extensions: ws.extensions, heard: [] };
  ws.on("message", (data, binary) => {
    served.heard.push(createHash("sha256").update(data).digest("hex"));
    ws.send(data, { binary });
    if (!data.toString().startsWith("{")) return;
    try {
      JSON.parse(data); // what looks like JSON has to be JSON
    } catch (error) {
      served.error = error.message;
    }
  });
  ws.on("error", (error) => (served.error = error.message));
  ws.on("close", (code, reason) => {
    served.close = { code, reason: reason.toString() };
    console.log(JSON.stringify(served));
  });
});

for (const address of job.addresses) {
  const server = createServer({ cert: readFileSync(job.certificate), key: readFileSync(job.key) });
  server.on("upgrade", (request, socket, head) => {
    wss.handleUpgrade(request, socket, head, (ws) => wss.emit("connection", ws, request));
  });
  server.listen(job.port, address);
  await once(server, "listening");
}
console.log("{}");

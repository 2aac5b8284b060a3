// An HTTP server that answers each request with 200, and prints its port and
// then what it made of each: [method, target, body].
const http = require('http')
const server = http.createServer((request, response) => {
	const parts = []
	request.on('data', (part) => parts.push(part))
	request.on('end', () => {
		const body = Buffer.concat(parts).toString('base64')
		console.log(JSON.stringify([request.method, request.url, body]))
		response.end('ok')
	})
})
server.listen(0, '127.0.0.1', () => console.log(server.address().port))

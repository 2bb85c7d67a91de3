// A client and a server over Node's tls. Arguments are words key=value, see tests/interop/peers/own.py.
'use strict';
const crypto = require('crypto');
const fs = require('fs');
const tls = require('tls');

const TIMEOUT_MILLISECONDS = 20000;
const HELLO = Buffer.from('pellucid interop: hello\n');

const words = {};
const turns = [];
for (const word of process.argv.slice(2)) {
  const at = word.indexOf('=');
  const key = word.slice(0, at);
  const value = word.slice(at + 1);
  if (key === 'turn') turns.push(value);
  words[key] = value;
}

function options() {
  const result = { minVersion: 'TLSv1.3', ca: fs.readFileSync(words.ca) };
  if (words.certificate) {
    result.cert = fs.readFileSync(words.certificate);
    result.key = fs.readFileSync(words.key);
  }
  if (words.suites) result.ciphers = words.suites.split(',').join(':');
  if (words.groups) result.ecdhCurve = words.groups.split(',').join(':');
  if (words.psk) {
    const [identity, psk] = [words.psk_identity, Buffer.from(words.psk, 'hex')];
    result.pskCallback =
      words.role === 'server' ? (socket, named) => (named === identity ? psk : null) : () => ({ identity, psk });
  }
  if (words.psk_mode === 'psk_ke') result.secureOptions = crypto.constants.SSL_OP_ALLOW_NO_DHE_KEX;
  if (words.alpn) result.ALPNProtocols = words.alpn.split(',');
  return result;
}

function printFacts(socket) {
  console.log(`suite=${socket.getCipher().standardName}`);
  console.log(`alpn=${socket.alpnProtocol || ''}`);
  // A PSK is a session to OpenSSL.
  console.log(`resumed=${socket.isSessionReused() && !words.psk ? 1 : 0}`);
  console.log(`psk=${socket.isSessionReused() && words.psk ? 1 : 0}`);
}

function fail(error) {
  console.error(error.stack || String(error));
  process.exit(1);
}

// Returns [message, rest] once there is a whole one: {start, head, body}; null before.
function message(buffer) {
  const end = buffer.indexOf('\r\n\r\n');
  if (end < 0) return null;
  const head = buffer.subarray(0, end).toString('latin1');
  const length = /^content-length: *(\d+)/im.exec(head);
  const size = length ? Number(length[1]) : 0;
  if (buffer.length < end + 4 + size) return null;
  const body = buffer.subarray(end + 4, end + 4 + size);
  return [{ head, body }, buffer.subarray(end + 4 + size)];
}

function serve() {
  const config = options();
  config.requestCert = words.client_authentication !== 'none';
  config.rejectUnauthorized = words.client_authentication === 'required';
  const server = tls.createServer(config, (socket) => {
    const shown = Object.keys(socket.getPeerCertificate() || {}).length > 0;
    if (shown && !socket.authorized) {
      socket.destroy(new Error(socket.authorizationError));
      return;
    }
    printFacts(socket);
    console.log(`client_certificate=${shown ? 1 : 0}`);
    socket.setTimeout(TIMEOUT_MILLISECONDS, () => socket.destroy());
    socket.on('error', (error) => console.error(error.message));
    let chunks = [];
    socket.on('data', (data) => {
      chunks.push(data);
      let found;
      let rest = Buffer.concat(chunks);
      while ((found = message(rest)) !== null) {
        const [request, after] = found;
        rest = after;
        const content = request.head.startsWith('POST') ? request.body : HELLO;
        socket.write(`HTTP/1.1 200 OK\r\nContent-Length: ${content.length}\r\n\r\n`);
        socket.write(content);
        if (/^connection: *close/im.test(request.head)) socket.end();
      }
      chunks = [rest];
    });
  });
  server.on('tlsClientError', (error) => console.error(error.message));
  server.on('error', fail);
  server.listen(0, '127.0.0.1', () => console.log(`port=${server.address().port}`));
}

function connect(remaining, session) {
  const address = { host: '127.0.0.1', port: Number(words.port), servername: words.name, session };
  const config = Object.assign(options(), address);
  const socket = tls.connect(config);
  socket.setTimeout(TIMEOUT_MILLISECONDS, () => fail(new Error('nothing came for 20 s')));
  let buffer = Buffer.alloc(0);
  let current = 0;
  let ticket;
  const say = () => socket.write(fs.readFileSync(turns[current].slice(0, turns[current].lastIndexOf(':'))));
  const proceed = () => {
    while (current < turns.length) {
      const at = turns[current].lastIndexOf(':');
      const [path, size] = [turns[current].slice(0, at), turns[current].slice(at + 1)];
      let answer;
      if (size === 'http') {
        const found = message(buffer);
        if (found === null) return;
        answer = found[0].body;
        buffer = found[1];
      } else {
        if (buffer.length < Number(size)) return;
        answer = buffer.subarray(0, Number(size));
        buffer = buffer.subarray(Number(size));
      }
      fs.writeFileSync(`${path}.answer`, answer);
      current += 1;
      if (current < turns.length) {
        say();
      } else {
        printFacts(socket);
        socket.end();
        return;
      }
    }
  };
  socket.on('secureConnect', say);
  socket.on('data', (data) => {
    buffer = Buffer.concat([buffer, data]);
    proceed();
  });
  socket.on('session', (data) => { ticket = data; });
  socket.on('error', fail);
  socket.on('close', () => {
    if (current < turns.length) fail(new Error(`closed in turn ${current}, ${buffer.length} bytes left`));
    if (remaining > 1) connect(remaining - 1, ticket);
  });
}

if (words.role === 'server') serve();
else connect(Number(words.connections));

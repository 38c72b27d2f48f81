// Memory work for node: JSON, maps, buffers outside V8's heap, zlib, worker threads, a child process.
'use strict';
const { Worker, isMainThread, parentPort, workerData } = require('node:worker_threads');
const { createHash } = require('node:crypto');
const { execFileSync } = require('node:child_process');
const zlib = require('node:zlib');

function generator(seed) {
  let state = seed >>> 0;
  return (n) => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return Math.floor((state / 4294967296) * n);
  };
}

const sha = (data) => createHash('sha256').update(data).digest('hex').slice(0, 16);

function document(seed, size) {
  const rnd = generator(seed);
  const word = () => Array.from({ length: 1 + rnd(20) }, () => String.fromCharCode(97 + rnd(26))).join('');
  return Array.from({ length: size }, (_, id) => ({ id, name: word(), tags: [word(), word()], text: word().repeat(rnd(30)) }));
}

// Buffers above node's pool size come from malloc, one each; they die out of order.
function buffers(seed) {
  const rnd = generator(seed);
  const kept = [];
  const hash = createHash('sha256');
  for (let i = 0; i < 3000; i++) {
    const buffer = Buffer.alloc(4096 + rnd(60000), i & 255);
    if (kept.length < 200) kept.push(buffer);
    else {
      const at = rnd(kept.length);
      if (i % 10 === 0) hash.update(kept[at]);
      kept[at] = buffer;
    }
  }
  return hash.digest('hex').slice(0, 16);
}

function work(seed) {
  const text = JSON.stringify(document(seed, 4000));
  const packed = zlib.deflateSync(text, { level: 6 });
  const back = zlib.inflateSync(packed).toString();
  return [seed, text.length, back === text, sha(packed), buffers(seed)];
}

async function main() {
  console.log('main', ...work(1));
  const index = new Map();
  for (const entry of document(2, 30000)) {
    const key = entry.name.slice(0, 2);
    index.set(key, (index.get(key) ?? []).concat(entry.id));
  }
  console.log('index', index.size, sha(JSON.stringify([...index].sort())));
  const results = await Promise.all([11, 12, 13, 14].map((seed) => new Promise((resolve, reject) => {
    const worker = new Worker(__filename, { workerData: seed });
    worker.once('message', resolve);
    worker.once('error', reject);
  })));
  for (const result of results) console.log('worker', ...result);
  const child = execFileSync(process.execPath, ['-e', 'console.log(Buffer.alloc(5e6, 7).reduce((a, b) => a + b))']);
  console.log('child', child.toString().trim());
}

if (isMainThread) main();
else parentPort.postMessage(work(workerData));

// Memory work for node. V8 keeps its own heap; buffers, zlib, strings from outside and worker threads use malloc.
'use strict';
const { Worker, isMainThread, parentPort, workerData } = require('node:worker_threads');
const zlib = require('node:zlib');

function generator(seed) {
  let state = seed >>> 0;
  return (n) => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return Math.floor((state / 4294967296) * n);
  };
}

// Above node's pool, so that each is a block of malloc's; they die out of order.
function buffers(seed) {
  const random = generator(seed);
  const kept = [];
  let total = 0;
  for (let i = 0; i < 20000; i++) {
    const buffer = Buffer.alloc(512 + random(20000), i & 255);
    const at = random(200);
    total += kept[at] ? kept[at][0] : 0;
    kept[at] = buffer;
  }
  return total;
}

function texts(seed) {
  const random = generator(seed);
  const list = Array.from({ length: 4000 }, (_, id) => {
    return { id, name: 'n' + random(1e9), tags: ['a' + random(99), 'b' + random(99)] };
  });
  let length = 0;
  for (let i = 0; i < 6; i++) {
    const packed = zlib.deflateSync(JSON.stringify(list), { level: 1 });
    length += JSON.parse(zlib.inflateSync(packed).toString()).length;
  }
  return length;
}

const work = (seed) => buffers(seed) + texts(seed);

async function main() {
  console.log(work(1));
  const sums = await Promise.all([2, 3].map((seed) => new Promise((resolve, reject) => {
    const worker = new Worker(__filename, { workerData: seed });
    worker.once('message', resolve);
    worker.once('error', reject);
  })));
  console.log(sums.join(' '));
}

if (isMainThread) main();
else parentPort.postMessage(work(workerData));

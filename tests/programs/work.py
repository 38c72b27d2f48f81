"""Memory work for python3: JSON, strings, threads, child processes. Prints only what every run prints alike."""

import collections
import hashlib
import json
import multiprocessing
import random
import re
import subprocess
import sys
import threading
import zlib


def digest(value):
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]


def document(seed, size):
    """A nested document with short and long strings, the same for the same seed."""
    rng = random.Random(seed)
    word = lambda: "".join(rng.choices("abcdefghijklmnopqrstuvwxyz", k=rng.randint(1, 40)))
    return [
        {"id": i, "name": word(), "tags": [word() for _ in range(rng.randint(0, 8))], "score": rng.random(),
         "nested": {word(): {"text": word() * rng.randint(1, 50)}}}
        for i in range(size)
    ]


def grow_and_shrink(seed):
    """Lists, byte arrays and dictionaries that grow by realloc and are freed out of order."""
    rng = random.Random(seed)
    kept = collections.deque()
    total = 0
    for i in range(40_000):
        block = bytearray(rng.choice((1, 15, 64, 200, 1000, 5000)))
        block.extend(b"x" * rng.randint(0, 300))
        block[0] = i & 255
        kept.append(block)
        if len(kept) > 2_000:
            gone = kept[rng.randrange(len(kept))]
            total += gone[0] + len(gone)
            kept.remove(gone) if i % 50 == 0 else kept.popleft()
    return total


def threads():
    results = {}

    def work(number):
        text = json.dumps(document(number, 600))
        results[number] = (digest(json.loads(text)), zlib.crc32(zlib.compress(text.encode(), 6)), grow_and_shrink(number))

    # More threads than cores, in two generations: caches of dead threads are inherited or given back.
    for generation in (range(0, 6), range(6, 12)):
        running = [threading.Thread(target=work, args=(number,)) for number in generation]
        for thread in running:
            thread.start()
        for thread in running:
            thread.join()
    return [results[number] for number in sorted(results)]


def child(number):
    return number, digest(document(number, 200))


def main():
    text = json.dumps(document(1, 8_000), indent=1)
    data = json.loads(text)
    print("json", len(text), digest(data))
    print("words", collections.Counter(re.findall(r"[a-z]{3}", text)).most_common(5))
    print("big integer", hex(7**200_000 * 3**200_000 % 2**600_011)[-40:])
    for result in threads():
        print("thread", result)
    with multiprocessing.get_context("fork").Pool(3) as pool:
        print("forked", pool.map(child, range(8)))
    code = "import json, sys; d = json.load(sys.stdin); print(len(d), sum(len(x['name']) for x in d))"
    for number in range(3):
        out = subprocess.run([sys.executable, "-c", code], input=json.dumps(document(number, 500)), text=True,
                             capture_output=True, check=True)
        print("subprocess", out.stdout.strip(), out.stderr)


main()

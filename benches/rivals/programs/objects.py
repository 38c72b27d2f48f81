"""Much memory work for python3: objects, dictionaries, strings, JSON, a regular expression, lists that grow. With
PYTHONMALLOC=malloc every object is a block of the allocator's."""

import json
import random
import re


class Node:
    def __init__(self, key):
        self.key, self.left, self.right = key, None, None


def tree(keys):
    root = Node(keys[0])
    for key in keys[1:]:
        node = root
        while True:
            side = "left" if key < node.key else "right"
            below = getattr(node, side)
            if below is None:
                setattr(node, side, Node(key))
                break
            node = below
    return root


def documents(rng):
    document = [{"id": i, "name": "n%x" % rng.getrandbits(64), "tags": ["t%d" % (j * i) for j in range(8)],
                 "score": rng.random()} for i in range(8_000)]
    return sum(len(json.loads(json.dumps(document))) for _ in range(2))


def words(rng):
    text = " ".join("%x" % rng.getrandbits(32) for _ in range(60_000))
    counts = {}
    for word in re.findall(r"[a-f]+", text):
        counts[word] = counts.get(word, 0) + 1
    return len(counts)


def lists(rng):
    kept = [[] for _ in range(1_000)]
    for i in range(200_000):
        kept[rng.getrandbits(10) % 1_000].append((i, str(i)))
    return sum(map(len, kept))


rng = random.Random(7)
print(tree([rng.random() for _ in range(20_000)]).key, documents(rng), words(rng), lists(rng))

#!/usr/bin/env python3
"""Makes the .jsonl files here and the seeds of FuzzInflate, FuzzDeflateReader and
FuzzExtensions.

The messages are those of examples/traffic, whose README tells of their licences.
Run in this directory: python3 make.py [handshakes.jsonl]
"""
import base64, hashlib, json, os, sys, zlib

SETS = "../../../examples/traffic"
TAIL = b"\x00\x00\xff\xff"


def messages(name, count, largest=2000):
    out = []
    for line in open(f"{SETS}/{name}.jsonl"):
        m = json.loads(line)
        if m["opcode"] in ("text", "binary"):
            data = m["payload"].encode() if "payload" in m else base64.b64decode(m["payload_b64"])
            out.append(data[:largest])
    return out[:count]


def compressor(bits=15, level=6, strategy=zlib.Z_DEFAULT_STRATEGY):
    return zlib.compressobj(level, zlib.DEFLATED, -bits, 8, strategy)


def direction(data, takeover=True, mode="sync", **options):
    """Compresses messages as RFC 7692, Section 7.2.1, has it."""
    c = compressor(**options)
    for d in data:
        if not takeover or mode == "final":
            c = compressor(**options)
        if mode == "final":  # Section 7.2.3.4
            yield d, c.compress(d) + c.flush(zlib.Z_FINISH) + b"\x00"
            continue
        p = b""
        if mode == "blocks":  # Section 7.2.3.5
            for i in range(0, len(d), 100):
                p += c.compress(d[i:i + 100])
                p += c.flush((zlib.Z_PARTIAL_FLUSH, zlib.Z_SYNC_FLUSH, zlib.Z_BLOCK)[i // 100 % 3])
        else:
            p += c.compress(d)
        p += c.flush(zlib.Z_FULL_FLUSH if mode == "full" else zlib.Z_SYNC_FLUSH)
        if not p.endswith(TAIL):  # nothing new since the last flush
            p += b"\x00" + TAIL
        yield d, p[:-4]


coinbase = messages("feed-coinbase", 60)
slack = messages("slack-socket-mode", 6)
cdp = messages("cdp-events", 20)
binary = messages("zeek-jupyter-websocket", 12) + messages("yjs-sync", 6) + messages("mqtt-zeek", 12)
mixed = coinbase[:6] + [b""] + cdp[:4] + [b""] + binary[:3]
long = [b"".join(messages("feed-coinbase", 150, 1 << 20))[:70000], b"short", coinbase[5]]

DIRECTIONS = {
    "default": (coinbase + slack, {}),
    "fastest": (cdp, {"level": 1}),
    "best": (cdp[:10], {"level": 9}),
    "stored": (mixed[:8], {"level": 0}),
    "fixed": (coinbase[:20], {"strategy": zlib.Z_FIXED}),
    "huffman": (coinbase[:6], {"strategy": zlib.Z_HUFFMAN_ONLY}),
    "rle": (coinbase[:6], {"strategy": zlib.Z_RLE}),
    "binary": (binary, {}),
    "window-9": (coinbase[:20] + slack[:2], {"bits": 9}),
    "window-12": (coinbase[:20] + slack[:2], {"bits": 12}),
    "no-takeover": (mixed + slack[:2], {"takeover": False}),
    "full-flush": (mixed, {"mode": "full"}),
    "blocks": (mixed, {"mode": "blocks"}),
    "final": (mixed, {"mode": "final"}),
    "long": (long, {}),
}

seeds = {}
for name, (data, options) in DIRECTIONS.items():
    with open(f"{name}.jsonl", "w") as f:
        json.dump({"bits": options.get("bits", 15), "takeover": options.get("takeover", True)}, f)
        f.write("\n")
        pairs = list(direction(data, **options))
        for d, p in pairs:
            json.dump({
                "size": len(d),
                "sha256": hashlib.sha256(d).hexdigest(),
                "payload": base64.b64encode(p).decode(),
            }, f)
            f.write("\n")
        seeds[name] = [p for _, p in pairs[:2]]


def go(value):
    """A Go literal in the format of testdata/fuzz."""
    if isinstance(value, bytes):
        return '[]byte("' + "".join(f"\\x{b:02x}" for b in value) + '")'
    if isinstance(value, str):
        return "string(" + json.dumps(value) + ")"
    return f"bool({str(value).lower()})"


def seed(target, name, *values, numbers=()):
    os.makedirs(f"../fuzz/{target}", exist_ok=True)
    with open(f"../fuzz/{target}/{name}", "w") as f:
        f.write("go test fuzz v1\n" + "".join(f"{v}\n" for v in [*map(go, values), *numbers]))


HELLO = b"\xf2\x48\xcd\xc9\xc9\x07\x00"
zeros = compressor()
zeros = zeros.compress(bytes(200000)) + zeros.flush(zlib.Z_SYNC_FLUSH)
for name in ("long", "fixed", "rle", "window-9", "window-12"):  # too long, or like default so far
    del seeds[name]
seeds |= {
    "rfc-takeover": [HELLO, b"\xf2\x00\x11\x00\x00"],
    "rfc-stored": [b"\x00\x05\x00\xfa\xffHello\x00", b"\x00"],
    "rfc-final": [b"\xf3\x48\xcd\xc9\xc9\x07\x00\x00", b"\xf3\x48\xcd\xc9\xc9\x07\x00"],
    "rfc-blocks": [b"\xf2\x48\x05\x00\x00\x00\xff\xff\xca\xc9\xc9\x07\x00", b""],
    "bomb": [zeros[:-4], HELLO],
    "cut": [seeds["default"][0][:-7], HELLO],
    "reserved": [b"\x06", HELLO],
    "wrong-length": [b"\x00\x05\x00\xfa\xfeHello\x00", HELLO],
    "too-far": [b"\xf2\x00\x11\x00\x00", HELLO],
}
for name, payloads in seeds.items():
    seed("FuzzInflate", name, *payloads, name != "no-takeover", numbers=("uint16(1000)", f"uint64({len(payloads[0])})"))



def frame(to_client, first, payload):
    """One frame with this first byte."""
    n, mask = len(payload), 0 if to_client else 0x80
    head = bytes([first, mask | n]) if n < 126 else bytes([first, mask | 126]) + n.to_bytes(2, "big")
    if to_client:
        return head + payload
    key = b"\xa1\x07\xfe\x5c"
    return head + key + bytes(b ^ key[i % 4] for i, b in enumerate(payload))


# Two messages: the first in fragments around a ping, with an uncompressed one behind it.
for i, (name, (first, second)) in enumerate(seeds.items()):
    to_client = i % 2 == 0
    half = len(first) // 2
    seed("FuzzDeflateReader", name, b"".join(frame(to_client, *f) for f in (
        (0x42, first[:half]), (0x89, b"ping"), (0x80, first[half:]), (0x81, b"plain"), (0xC1, second))),
        to_client, name != "no-takeover", numbers=("byte('\\x07')", "uint16(1000)", f"uint64({len(first)})"))
for name, stream in {
    "rsv1-continuation": frame(True, 0x41, HELLO) + frame(True, 0xC0, b""),
    "rsv1-ping": frame(True, 0x41, HELLO) + frame(True, 0xC9, b""),
    "rsv2": frame(True, 0xE1, HELLO),
    "empty": frame(True, 0xC1, b"\0") + frame(True, 0xC1, b""),
    "text-not-utf8": frame(True, 0xC1, b"\xf2\xfa\xff\x0f\0"),
    "close": frame(True, 0xC1, HELLO) + frame(True, 0x88, b"\x03\xe8") + frame(True, 0xC1, HELLO),
}.items():
    seed("FuzzDeflateReader", name, stream, True, True, numbers=("byte('\\x00')", "uint16(100)", "uint64(3)"))

HANDSHAKES = [  # for what has not been seen there
    ("permessage-deflate; client_max_window_bits; server_max_window_bits=\"1\\0\"",
     "permessage-deflate; server_max_window_bits=9; client_no_context_takeover"),
    ("permessage-deflate; server_no_context_takeover, permessage-deflate",
     "permessage-deflate ; server_no_context_takeover"),
    ("x-webkit-deflate-frame, permessage-deflate", "x-webkit-deflate-frame"),
    ("permessage-bzip2; a=\"b\", permessage-deflate", "permessage-deflate, permessage-deflate"),
    ("permessage-deflate; client_max_window_bits=10", "permessage-deflate; client_max_window_bits=08"),
    (",, permessage-deflate;", "permessage-deflate; \"a\""),
]
if len(sys.argv) > 1:
    for line in open(sys.argv[1]):
        h = json.loads(line)
        values = [[v for k, v in h[s] or [] if k.lower() == "sec-websocket-extensions"]
                  for s in ("request_headers", "response_headers")]
        pair = tuple(", ".join(v) for v in values)
        if pair not in HANDSHAKES:
            HANDSHAKES.append(pair)
for i, pair in enumerate(HANDSHAKES):
    seed("FuzzExtensions", f"handshake-{i:02}", *pair)

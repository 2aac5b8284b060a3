#!/usr/bin/env python3
"""An independent verifier of framegate audit logs (docs/AUDIT-FORMAT.md).

usage: verify.py DIR [--key VKEY|FILE] [--checkpoint FILE]... [--witness-key VKEY|FILE]...
       verify.py --proof FILE --key VKEY|FILE

It shares no code with framegate and uses the Python standard library, and for
zstd what is there: compression.zstd (Python 3.14), the module zstandard, or the
program zstd. It is written to be read: it takes one block after the other and
as much memory as a segment has bytes.

Exit codes: 0 intact, 10 altered, 11 truncated, 12 blocks missing in the middle,
13 bad signature, 1 the log cannot be read, 2 usage.
"""

import argparse
import base64
import hashlib
import json
import json
import os
import re
import struct
import subprocess
import sys

ALTERED, TRUNCATED, GAP, SIGNATURE = 10, 11, 12, 13
WORDS = {0: "intact", ALTERED: "altered", TRUNCATED: "truncated", GAP: "gap", SIGNATURE: "bad signature"}


def sha256(b):
    return hashlib.sha256(b).digest()


# --- zstd ---------------------------------------------------------------------

def inflate(stored, length):
    """Return the records of a block, or None if they are not of this length."""
    try:
        try:
            from compression import zstd
            raw = zstd.ZstdDecompressor().decompress(stored, max_length=length + 1)
        except ImportError:
            try:
                import zstandard
                raw = zstandard.ZstdDecompressor().decompressobj().decompress(stored)
            except ImportError:
                raw = subprocess.run(["zstd", "-dcq"], input=stored, check=True,
                                     stdout=subprocess.PIPE, stderr=subprocess.DEVNULL).stdout
    except FileNotFoundError:
        sys.exit("verify.py: no zstd here: install python3-zstandard or zstd")
    except Exception:
        return None
    return raw if len(raw) == length else None


# --- CRC-32C (RFC 3720, appendix B.4) -------------------------------------------

CRC = []
for n in range(256):
    for _ in range(8):
        n = n >> 1 ^ (0x82F63B78 if n & 1 else 0)
    CRC.append(n)


def crc32c(b):
    c = 0xFFFFFFFF
    for x in b:
        c = CRC[(c ^ x) & 255] ^ c >> 8
    return c ^ 0xFFFFFFFF


# --- Ed25519 (RFC 8032, section 5.1) ---------------------------------------------

P = 2**255 - 19
L = 2**252 + 27742317777372353535851937790883648493
D = -121665 * pow(121666, P - 2, P) % P
SQRT_M1 = pow(2, (P - 1) // 4, P)


def point(b):
    """Decode a point to extended coordinates, or None (section 5.1.3)."""
    y = int.from_bytes(b, "little")
    sign, y = y >> 255, y & (1 << 255) - 1
    if y >= P:
        return None
    x2 = (y * y - 1) * pow(D * y * y + 1, P - 2, P) % P
    x = pow(x2, (P + 3) // 8, P)
    if (x * x - x2) % P:
        x = x * SQRT_M1 % P
    if (x * x - x2) % P or x == 0 and sign:
        return None
    if x & 1 != sign:
        x = P - x
    return x, y, 1, x * y % P


def plus(p, q):
    a = (p[1] - p[0]) * (q[1] - q[0]) % P
    b = (p[1] + p[0]) * (q[1] + q[0]) % P
    c = 2 * p[3] * q[3] * D % P
    d = 2 * p[2] * q[2] % P
    e, f, g, h = b - a, d - c, d + c, b + a
    return e * f % P, g * h % P, f * g % P, e * h % P


def times(n, p):
    q = (0, 1, 1, 0)
    while n:
        if n & 1:
            q = plus(q, p)
        p = plus(p, p)
        n >>= 1
    return q


BASE = point(bytes.fromhex("58" + 31 * "66"))


def ed25519_verify(public, message, signature):
    a, r = point(public), point(signature[:32])
    s = int.from_bytes(signature[32:], "little")
    if len(signature) != 64 or a is None or r is None or s >= L:
        return False
    k = int.from_bytes(hashlib.sha512(signature[:32] + public + message).digest(), "little") % L
    p, q = times(s, BASE), plus(r, times(k, a))
    return (p[0] * q[2] - q[0] * p[2]) % P == 0 and (p[1] * q[2] - q[1] * p[2]) % P == 0


# --- Signed notes and checkpoints (C2SP signed-note, tlog-checkpoint) --------------

class Bad(Exception):
    """Something that is not as it must be."""


def strict_base64(s):
    b = base64.b64decode(s, validate=True)
    if base64.b64encode(b).decode() != s:
        raise Bad("base64 with bits that mean nothing")
    return b


class Key:
    def __init__(self, vkey, kind=1):
        try:
            self.name, digits, data = vkey.split("+", 2)
            data = strict_base64(data)
        except ValueError:
            raise Bad("not a public key")
        self.hash, self.public = sha256(self.name.encode() + b"\n" + data)[:4], data[1:]
        if len(data) != 33 or data[0] != kind or digits != self.hash.hex():
            raise Bad("not a public key")

    def cosigned(self, msg):
        """Return when this witness cosigned a checkpoint (C2SP tlog-cosignature), or None."""
        try:
            text, signatures = msg.decode().rsplit("\n\n", 1)
            for line in signatures.splitlines():
                dash, name, sig = line.split(" ")
                sig = strict_base64(sig)
                if name != self.name or sig[:4] != self.hash:
                    continue
                if dash != "\u2014" or len(sig) != 76:
                    raise Bad("not a cosignature")
                time = int.from_bytes(sig[4:12], "big")
                signed = "cosignature/v1\ntime %d\n%s\n" % (time, text)
                if time > 253402300799 or not ed25519_verify(self.public, signed.encode(), sig[12:]):
                    raise Bad("wrong cosignature by %s" % self.name)
                return time
        except ValueError as e:
            raise Bad("not a checkpoint: %s" % e)

    def open(self, msg):
        """Return origin, size and root of a checkpoint that this key has signed."""
        try:
            text, signatures = msg.decode().rsplit("\n\n", 1)
            text += "\n"
            good = False
            if not signatures.endswith("\n") or re.search("[\x00-\x09\x0b-\x1f]", msg.decode()):
                raise Bad("not a signed note")
            for line in signatures[:-1].split("\n"):
                dash, name, sig = line.split(" ")
                sig = strict_base64(sig)
                if dash != "\u2014" or len(sig) < 5:
                    raise Bad("not a signature line")
                if name == self.name and sig[:4] == self.hash and not good:
                    good = ed25519_verify(self.public, text.encode(), sig[4:])
                    if not good:
                        raise Bad("wrong signature")
            if not good:
                raise Bad("no signature by this key")
            origin, size, root = text[:-1].split("\n")
            root = strict_base64(root)
            if origin != self.name or size != str(int(size)) or not size.isdecimal() or len(root) != 32:
                raise Bad("signed, but not a checkpoint")
            return origin, int(size), root
        except ValueError as e:
            raise Bad("not a checkpoint: %s" % e)


def given_checkpoints(data):
    """Take apart a file of checkpoints, or lines of a syslog with checkpoints in them."""
    begin = b'{"checkpoint":'
    if begin not in data:
        notes, rest = split_history(data)
        return notes + ([rest] if rest or not notes else [])
    msgs = []
    for line in data.splitlines():
        if begin in line:
            sent = line[line.index(begin):].decode(errors="replace")
            try:
                msgs.append(json.JSONDecoder().raw_decode(sent)[0]["checkpoint"].encode())
            except (ValueError, KeyError, AttributeError):
                msgs.append(line)
    return msgs


def split_history(data):
    """A history is checkpoints with an empty line behind each."""
    parts = data.split(b"\n\n")
    notes = [parts[i] + b"\n\n" + parts[i + 1] + b"\n" for i in range(0, len(parts) - 2, 2)]
    rest = b"\n\n".join(parts[len(notes) * 2:])
    return notes, rest


# --- The Merkle tree (RFC 6962, section 2.1) ---------------------------------------

def leaf(data):
    return sha256(b"\0" + data)


def roots(leaves, sizes):
    """Return the roots of the trees over the first n leaves, for n in sizes."""
    result, stack = {}, []
    for n in range(len(leaves) + 1):
        if n in sizes:
            h = stack[-1] if stack else sha256(b"")
            for left in reversed(stack[:-1]):
                h = sha256(b"\1" + left + h)
            result[n] = h
        if n < len(leaves):
            h, k = leaves[n], n
            while k & 1:
                h, k = sha256(b"\1" + stack.pop() + h), k >> 1
            stack.append(h)
    return result


def root(leaves):
    return roots(leaves, {len(leaves)})[len(leaves)]


def root_from_path(h, index, size, path):
    """The root that an audit path gives (RFC 9162, section 2.1.3.2), or None."""
    if index >= size:
        return None
    last = size - 1
    for p in path:
        if last == 0:
            return None
        if index & 1 or index == last:
            h = sha256(b"\1" + p + h)
            while not index & 1 and index:
                index, last = index >> 1, last >> 1
        else:
            h = sha256(b"\1" + h + p)
        index, last = index >> 1, last >> 1
    return h if last == 0 else None


# --- Blocks --------------------------------------------------------------------------

HEADER = struct.Struct(">8s16sQQIqqII32s32sI")
FRAME = struct.pack("<II", 0x184D2A57, HEADER.size)


class Block:
    """A header; content is what the tree has of it."""

    def __init__(self, content):
        if len(content) != HEADER.size:
            raise Bad("block header of %d bytes" % len(content))
        (magic, self.id, self.number, self.first_seq, self.count, self.first, self.last,
         self.raw_len, self.stored_len, self.stored, self.root, crc) = HEADER.unpack(content)
        if magic != b"FGAUDIT1":
            raise Bad("no block header, or of another version")
        if crc != crc32c(content[:-4]):
            raise Bad("block header does not match its checksum")
        if not 1 <= self.count <= 4096 or not 1 <= self.raw_len <= 512 << 20 or \
                not 1 <= self.stored_len <= (512 << 20) + (4 << 20) or self.first > self.last:
            raise Bad("impossible block header")
        self.content, self.leaf, self.lines = content, leaf(content), []

    def problem(self, stored):
        """Say what is wrong with the bytes behind the header, or None."""
        if sha256(stored) != self.stored:
            return "the stored bytes do not match their hash"
        raw = inflate(stored, self.raw_len)
        if raw is None or not raw.endswith(b"\n"):
            return "the stored bytes do not decompress to the length of the header"
        lines = self.lines = raw[:-1].split(b"\n")
        if len(lines) != self.count:
            return "%d records, %d in the header" % (len(lines), self.count)
        for i, line in enumerate(lines):
            if not line.startswith(b'{"seq":%d,' % (self.first_seq + i)):
                return "record %d does not bear this seq" % (self.first_seq + i)
        if self.root != bytes(32) and root([leaf(line) for line in lines]) != self.root:
            return "the records do not give the root of the header"
        return None


    def removals(self):
        """The audit.expire records of a block that problem has looked at."""
        lines = [n for n in self.lines if b',"event":"audit.expire"' in n]
        return [r for r in (removal(line, self.number) for line in lines) if r]


def removal(line, number):
    """Return what an audit.expire record in the block of this number says, or None."""
    record = json.loads(line)
    if record.get("event") != "audit.expire" or "expired" not in record:
        return None
    what = {"reason": "", **record["expired"], **{k: record[k] for k in ("seq", "time", "reason") if k in record}}
    return what if what["first_block"] <= what["last_block"] < number else None


def pieces(data, id):
    """Yield (offset, block, what is wrong, whether the file is cut short)."""
    off, prefix = 0, FRAME + b"FGAUDIT1" + id

    def at(off):
        head = data[off:off + 144]
        if not (FRAME + b"FGAUDIT1").startswith(head[:16]) if len(head) < 16 else head[:16] != FRAME + b"FGAUDIT1":
            raise Bad("no block header here")
        if len(head) < 144:
            return None
        block = Block(head[8:])
        if block.id != id:
            raise Bad("block of another log")
        return block

    while off < len(data):
        block, wrong = None, None
        try:
            block = at(off)
        except Bad as e:
            wrong = str(e)
        end = off + 144 + block.stored_len if block else len(data) + 1
        if end <= len(data):
            yield off, block, block.problem(data[off + 144:end]), False
            off = end
            continue
        yield off, block, wrong, wrong is None
        while True:  # the next whole block
            off = data.find(prefix, off + 1)
            if off < 0:
                return
            try:
                block = at(off)
            except Bad:
                continue
            stored = data[off + 144:off + 144 + block.stored_len] if block else b""
            if block and sha256(stored) == block.stored:
                break


# --- The log ---------------------------------------------------------------------------

class Verifier:
    def __init__(self, dir):
        self.dir, self.findings, self.notes = dir, [], []

    def path(self, *name):
        return os.path.join(self.dir, *name)

    def read(self, *name):
        with open(self.path(*name), "rb") as f:
            return f.read()

    def list(self, dir):
        return os.listdir(self.path(dir)) if os.path.isdir(self.path(dir)) else []

    def find(self, code, block, place, reason):
        self.findings.append((code != SIGNATURE and 1, block, len(self.findings), code, place, reason))
        return len(self.findings) - 1

    def is_open(self):
        return os.path.exists(self.path("open"))

    def run(self, vkey, old, witnesses):
        log_id = self.read("log-id")
        was_open = self.is_open()
        try:
            if vkey is None:
                vkey = self.read("key.pub").decode()
                if not vkey.endswith("\n"):
                    raise Bad("no newline at the end")
                vkey = vkey[:-1]
                self.notes.append("the key is that of the directory: compare it with one that was kept elsewhere")
            key = Key(vkey)
        except (Bad, ValueError, FileNotFoundError) as e:
            self.find(SIGNATURE, 0, "key.pub", e)
            return
        self.marks, self.removal, self.begin = [], None, 0
        self.read_removal(key)
        self.read_marks(key, old, was_open)
        self.check_witnesses(witnesses, old)
        head = self.read_head(key)
        if head is None:
            return
        origin, self.size, self.root = head
        id = origin[len("framegate/"):]
        if log_id != id.encode() + b"\n" or not re.fullmatch("[0-9a-f]{32}", id):
            self.find(ALTERED, 0, "log-id", "not the id of the log that is signed, %s" % origin)
            return
        self.id = bytes.fromhex(id)
        for size, _, place, _ in self.marks:
            if size > self.size:
                self.find(TRUNCATED, self.size, place, "covers %d blocks, the log only %d" % (size, self.size))
        self.read_tree()
        self.check_removal()
        self.read_blocks()
        closed = not was_open and not self.is_open() and self.read_head(key) == head
        self.finish(closed)
        self.check_marks()

    def check_witnesses(self, witnesses, old):
        for w in witnesses:
            times = []
            for msg in (m for data in old for m in given_checkpoints(data)):
                try:
                    times.append(w.cosigned(msg))
                except Bad as e:
                    self.find(SIGNATURE, 0, "given checkpoint", e)
            if not any(t is not None for t in times):
                self.find(SIGNATURE, 0, "witness", "%s has cosigned no checkpoint that was given" % w.name)

    def read_head(self, key):
        try:
            return key.open(self.read("checkpoint"))
        except (Bad, FileNotFoundError) as e:
            self.find(SIGNATURE, 0, "checkpoint", e)

    def read_marks(self, key, old, was_open):
        notes, rest = [], b""
        if os.path.exists(self.path("checkpoints")):
            notes, rest = split_history(self.read("checkpoints"))
        all = [(n, "checkpoints: checkpoint %d" % (i + 1), False) for i, n in enumerate(notes)]
        if rest and not was_open:
            self.find(SIGNATURE, 0, "checkpoints", "%d bytes at the end are no checkpoint" % len(rest))
        for data in old:
            all += [(n, "given checkpoint", True) for n in given_checkpoints(data)]
        for msg, place, given in all:
            try:
                _, size, hash = key.open(msg)
                self.marks.append((size, hash, place, given))
            except Bad as e:
                self.find(SIGNATURE, 0, place, e)
        self.marks.sort(key=lambda m: m[0])

    # What was removed, as the log has on record

    def read_removal(self, key):
        if not os.path.exists(self.path("expired")):
            return
        try:
            code, what, number, head = check_proof(self.read("expired"), key)
            if code:
                raise Bad(what)
            self.removal = removal(what.encode(), number)
            if self.removal is None:
                raise Bad("not the record of a removal")
            self.marks.append((head[1], head[2], "expired", False))
        except (Bad, ValueError) as e:
            self.find(ALTERED, 0, "expired", e)

    def check_removal(self):
        names = self.segments()
        if names and int(names[0][:12]) > (self.removal["last_block"] + 1 if self.removal else 0):
            # A newer record than that of the file may be in the log.
            for name in reversed(names):
                found = [r for _, b, wrong, short in pieces(self.read("seg", name), self.id)
                         if b and not wrong and not short and b.number < self.signed
                         and b.leaf == self.leaves[b.number] for r in b.removals()]
                if found:
                    newest = max(found, key=lambda r: r["seq"])
                    if self.removal is None or newest["seq"] > self.removal["seq"]:
                        self.removal = newest
                        self.notes.append("the newest record of a removal is not in expired, but in the log")
                    break
        if self.removal is None:
            return
        last = self.removal["last_block"]
        try:
            entry = Block(self.entries[last] or b"") if last < self.size else None
        except Bad:
            entry = None
        if last >= self.size or entry and entry.first_seq + entry.count != self.removal["last_seq"] + 1:
            self.find(GAP, 0, "expired", "record %d does not say what is removed" % self.removal["seq"])
            self.removal = None
            return
        self.begin = last + 1
        self.notes.append("blocks 0 to %d, seq 1 to %d, are removed as record %d says, of %s: %s" % (
            last, self.removal["last_seq"], self.removal["seq"], self.removal["time"], self.removal["reason"]))

    def segments(self):
        return sorted(n for n in self.list("seg") if re.fullmatch(r"[0-9]{12}\.jsonl\.zst", n))

    # The tree

    def tile(self, level, n, width):
        """Return the bytes of a tile (level "entries": of a bundle), or None."""
        digits = "%03d" % (n % 1000)
        k = n
        while k >= 1000:
            k //= 1000
            digits = "x%03d/%s" % (k % 1000, digits)
        full = "tile/%s/%s" % (level, digits)
        name = full if width == 256 else "%s.p/%d" % (full, width)
        first = n * 256 if level == "entries" else n * 256 ** (level + 1)
        if not os.path.exists(self.path(name)) and os.path.exists(self.path(full)):
            name = full
        try:
            entries = self.split(level, self.read(name))
            if len(entries) < width or len(entries) > width and name != full:
                raise Bad("%d entries, expected %d" % (len(entries), width))
        except (Bad, FileNotFoundError) as e:
            self.find(ALTERED, first, name, e)
            return None, name
        for w in self.list(full + ".p"):
            if w.isdecimal() and 0 < int(w) < width:
                try:
                    same = self.split(level, self.read(full + ".p", w)) == entries[:int(w)]
                except Bad:
                    same = False
                if not same:
                    self.find(ALTERED, n * 256, full + ".p/" + w, "not the beginning of what it has become")
        return entries[:width], name

    def split(self, level, data):
        if level != "entries":
            if len(data) % 32:
                raise Bad("not a list of hashes")
            return [data[i:i + 32] for i in range(0, len(data), 32)]
        entries, off = [], 0
        while off < len(data):
            end = off + 2 + int.from_bytes(data[off:off + 2], "big")
            if len(data) < off + 2 or len(data) < end:
                raise Bad("the last entry is cut short")
            entries.append(data[off + 2:end])
            off = end
        return entries

    def read_tree(self):
        tiles, bundles, names = [], [], {}
        self.entries = []
        for n in range((self.size + 255) // 256):
            width = min(256, self.size - n * 256)
            hashes, tile = self.tile(0, n, width)
            entries, bundle = self.tile("entries", n, width)
            names[n] = tile, bundle
            tiles += hashes or [None] * width
            self.entries += entries or [None] * width
            bundles += [leaf(e) for e in entries] if entries else [None] * width
        self.signed, self.leaves = self.signed_up_to(tiles), tiles
        n = self.signed_up_to(bundles)
        if n > self.signed:
            self.signed, self.leaves = n, bundles
        for i in range(self.size):
            if tiles[i] != bundles[i]:
                tile_is_wrong = i < self.signed and self.leaves[i] == bundles[i]
                self.find(ALTERED, i, names[i // 256][0 if tile_is_wrong else 1],
                          "what it has for block %d is not what is signed" % i)
        level, hashes = 1, self.leaves
        while self.signed == self.size and len(hashes) >= 256:
            hashes = [root(hashes[i:i + 256]) for i in range(0, len(hashes) - 255, 256)]
            for n in range((len(hashes) + 255) // 256):
                want = hashes[n * 256:n * 256 + 256]
                got, name = self.tile(level, n, len(want))
                if got is not None and got != want:
                    self.find(ALTERED, n * 256 ** (level + 1), name, "not the hashes of the tiles below")
            level += 1

    def signed_up_to(self, leaves):
        whole = [h for h in leaves if h is not None]
        known = roots(leaves if len(whole) == len(leaves) else leaves[:leaves.index(None)],
                      {self.size} | {m[0] for m in self.marks})
        if known.get(self.size) == self.root:
            return self.size
        return max([m[0] for m in self.marks if known.get(m[0]) == m[1]], default=0)

    # The blocks

    def read_blocks(self):
        self.next, self.seq, self.oddity, self.holes, self.tail = 0, 1, None, [], None
        self.hashes, self.intact, self.uncovered = [], 0, 0
        names, self.present = self.segments(), 0
        for name in names:
            data, first = self.read("seg", name), True
            for off, block, wrong, short in pieces(data, self.id):
                place = "seg/%s: offset %d" % (name, off)
                if block and not short:
                    self.block(place, block, wrong, name if first else None)
                else:
                    self.damage(place, block, wrong, short, name == names[-1], data[off:])
                first = False

    def odd(self, place, reason):
        self.oddity = self.oddity or (place, self.next, reason)

    def flush(self):
        place, block, reason = self.oddity
        self.find(ALTERED, block, place, reason)
        self.oddity = None

    def block(self, place, b, wrong, name):
        n = b.number
        if n < self.signed and b.leaf != self.leaves[n]:
            return self.odd(place, "not block %d as it was signed" % n)
        if n < self.next:
            for low, high, i in self.holes:
                if low <= n < high:
                    f = self.findings[i]
                    self.findings[i] = f[:3] + (ALTERED, f[4], "block %d is not here but at %s" % (n, place))
                    return
            self.find(ALTERED, n, place, "block %d comes a second time" % n)
            return
        if n >= self.size and n != max(self.next, self.size):
            return self.odd(place, "block %d where block %d should be" % (n, self.next))
        if n > self.next and self.next < self.begin and not self.oddity:
            self.next = min(self.begin, n)
            self.seq = self.seq_behind(self.next, b)
        if n > self.next:
            if self.oddity:
                self.flush()
            else:
                i = self.find(GAP, self.next, place, "blocks %d to %d are missing here" % (self.next, n - 1))
                self.holes.append((self.next, n, i))
            self.seq = self.seq_behind(n, b)
        elif self.oddity:
            self.flush()
        if name and int(name[:12]) != n:
            self.find(ALTERED, n, "seg/" + name, "the file begins with block %d, which is not its name" % n)
        if b.first_seq != self.seq:
            self.find(GAP, n, place, "record %d where record %d should be" % (b.first_seq, self.seq))
        self.next, self.seq = n + 1, b.first_seq + b.count
        self.hashes.append(b.leaf)
        if wrong:
            self.find(ALTERED, n, place, "block %d: %s" % (n, wrong))
        elif n >= self.size:
            self.uncovered += 1
        elif n < self.begin:
            self.present += 1
        else:
            self.intact += 1

    def seq_behind(self, n, b):
        """The first seq of block n, by the entry of the block before, or as b says."""
        try:
            before = Block(self.entries[n - 1] or b"")
            return before.first_seq + before.count
        except Bad:
            return b.first_seq

    def damage(self, place, block, wrong, short, last, rest):
        if rest[8:15] == b"FGAUDIT" and rest[15:16] != b"1" and self.next < self.signed and \
                leaf(rest[8:144]) == self.leaves[self.next]:
            sys.exit("verify.py: %s: written by a newer framegate, in a format that is not known here" % place)
        torn = short or not rest.strip(b"\0") or \
            rest.startswith(FRAME + b"FGAUDIT1" + self.id) and wrong is not None
        if short and block and self.next < self.signed:
            short = block.leaf == self.leaves[self.next]
        if last and torn and self.next >= self.size and not self.oddity:
            self.tail = place
        elif not short:
            self.odd(place, wrong or "not block %d as it was signed" % self.next)

    def finish(self, closed):
        if not self.oddity:
            self.next = max(self.next, self.begin)
        if self.present:
            self.notes.append("%d blocks are there, though they are on record as removed" % self.present)
        if self.oddity:
            self.flush()
        elif self.next < self.size:
            self.find(TRUNCATED, self.next, "seg", "the log ends before block %d" % self.next)
        elif self.tail and closed:
            self.find(ALTERED, self.next, self.tail, "bytes behind the last block of a log that was closed")
        elif self.tail:
            self.notes.append("%s: a block that is being written, or was when the gateway was killed" % self.tail)
        if self.uncovered and closed:
            self.find(ALTERED, self.size, "seg", "%d blocks behind the last checkpoint of a log that was closed" % self.uncovered)
        if self.signed < self.size and len(self.hashes) >= self.size and root(self.hashes[:self.size]) == self.root:
            self.signed, self.leaves = self.size, self.hashes[:self.size]

    def check_marks(self):
        if self.signed < self.size:
            self.find(ALTERED, self.signed, "checkpoint", "neither the tiles nor the blocks give the root that is signed")
            return
        known = roots(self.leaves, {m[0] for m in self.marks})
        for size, hash, place, given in self.marks:
            if size <= self.size and known[size] != hash:
                good = [m[0] for m in self.marks if m[0] < size and known[m[0]] == m[1] and (m[3] or not given)]
                self.find(ALTERED, max(good, default=0), place,
                          "the first %d blocks are not those of this checkpoint: the log was rewritten or forked" % size)
                return


# --- Proofs --------------------------------------------------------------------------------

def check_proof(text, key):
    """Return exit code, what was found, the number of the block and the checkpoint."""
    try:
        inner, outer, checkpoint = text.split(b"\n\n", 2)
        inner, outer = inner.decode().split("\n"), outer.decode().split("\n")
        if inner[0] != "framegate-audit-proof@v1" or outer[0] != "c2sp.org/tlog-proof@v1" or \
                not inner[2].startswith("index ") or not outer[1].startswith("extra ") or not outer[2].startswith("index "):
            raise Bad("not a proof")
        record, index, path = inner[1].encode(), int(inner[2][6:]), [strict_base64(h) for h in inner[3:]]
        content, number = strict_base64(outer[1][6:]), int(outer[2][6:])
        tree_path = [strict_base64(h) for h in outer[3:]]
    except (Bad, ValueError, IndexError) as e:
        return 1, "not a proof: %s" % e, None, None
    try:
        origin, size, tree_root = key.open(checkpoint)
    except Bad as e:
        return SIGNATURE, e, None, None
    try:
        block = Block(content)
    except Bad as e:
        return ALTERED, e, None, None
    if root_from_path(block.leaf, number, size, tree_path) != tree_root or block.number != number or \
            "framegate/" + block.id.hex() != origin:
        return ALTERED, "the header of block %d is not in the tree of the checkpoint" % number, None, None
    if root_from_path(leaf(record), index, block.count, path) != block.root or \
            not record.startswith(b'{"seq":%d,' % (block.first_seq + index)):
        return ALTERED, "the record is not that of block %d" % number, None, None
    return 0, record.decode(), number, (origin, size, tree_root)


def key_text(key):
    """A key, or what the file of this name has."""
    if os.path.exists(key):
        with open(key) as f:
            return f.read().strip()
    return key


def main():
    args = argparse.ArgumentParser(description="Verify a framegate audit log.")
    args.add_argument("dir", nargs="?")
    args.add_argument("--key")
    args.add_argument("--checkpoint", action="append", default=[])
    args.add_argument("--witness-key", action="append", default=[])
    args.add_argument("--proof")
    args = args.parse_args()
    if (args.dir is None) == (args.proof is None) or args.proof and not args.key:
        sys.exit(print(__doc__, file=sys.stderr) or 2)
    vkey = args.key
    try:
        vkey = vkey and key_text(vkey)
        if vkey:
            Key(vkey)
        witnesses = [Key(key_text(w), 4) for w in args.witness_key]
        old = [open(name, "rb").read() for name in args.checkpoint]
    except (Bad, OSError) as e:
        print("verify.py: %s" % e, file=sys.stderr)
        return 2
    try:
        if args.proof:
            with open(args.proof, "rb") as f:
                code, what, _, _ = check_proof(f.read(), Key(vkey))
            print(ascii(str(what))[1:-1] if code else what)
            return code
        v = Verifier(args.dir)
        v.run(vkey, old, witnesses)
    except OSError as e:
        print("verify.py: %s" % e, file=sys.stderr)
        return 1
    for n in v.notes:
        print("note: %s" % n)
    v.findings.sort(key=lambda f: f[:3])
    for _, block, _, code, place, reason in v.findings[:20]:
        print("%s: %s: %s" % (WORDS[code], place, ascii(str(reason))[1:-1]))
    code = v.findings[0][3] if v.findings else 0
    if not code:
        print("intact: %d blocks covered by the checkpoint, %d behind it" % (v.intact, v.uncovered))
    return code


if __name__ == "__main__":
    sys.exit(main())

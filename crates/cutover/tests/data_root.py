#!/usr/bin/env python3
"""The data root of a frozen SQLite file, computed by the guide alone (docs/guides/cutover-digests.md).

usage: data_root.py FILE DOCUMENT.json

DOCUMENT is what `Verifier::describe` gives, with the rows in quarantine added under "out". Prints a line for each table
(name, rows, root) and, last, the data root. Standard library only; sorts in memory.
"""

import datetime
import decimal
import hashlib
import json
import re
import sqlite3
import struct
import sys
import uuid

decimal.getcontext().prec = 5000
EPOCH = datetime.datetime(1970, 1, 1)
NULL, BOOL, INT, DOUBLE, DECIMAL, TEXT, UUID, JSON, TIME, DATE, BYTES, VECTOR = range(12)


def sha256(*parts):
    return hashlib.sha256(b"".join(parts)).digest()


def merkle(leaves):
    """RFC 6962, section 2.1."""
    if not leaves:
        return sha256()
    while len(leaves) > 1:
        # Pairs from the left; one that is left over goes up as it is, which makes the same tree.
        pairs = [sha256(b"\1", *leaves[at : at + 2]) for at in range(0, len(leaves) - 1, 2)]
        leaves = pairs + leaves[len(pairs) * 2 :]
    return leaves[0]


def number(text):
    """A decimal in plain digits, without anything that says nothing."""
    value = decimal.Decimal(text)
    return "0" if value == 0 else format(value.normalize(), "f")


class Number(str):
    pass


def quoted(text):
    short = {'"': '\\"', "\\": "\\\\", "\b": "\\b", "\f": "\\f", "\n": "\\n", "\r": "\\r", "\t": "\\t"}
    escaped = lambda found: short.get(found.group()) or "\\u%04x" % ord(found.group())
    return '"' + re.sub(r'["\\\x00-\x1f]', escaped, text) + '"'


def written(value):
    if isinstance(value, Number):
        return str(value)
    if isinstance(value, str):
        return quoted(value)
    if isinstance(value, list):
        return "[" + ",".join(map(written, value)) + "]"
    if isinstance(value, dict):
        members = sorted(value.items(), key=lambda member: member[0].encode())
        return "{" + ",".join(quoted(name) + ":" + written(of) for name, of in members) + "}"
    return {None: "null", True: "true", False: "false"}[value]


def canonical_json(text):
    def refuse(word):
        raise ValueError(word)

    exact = lambda digits: Number(number(digits))
    return written(json.loads(text, parse_float=exact, parse_int=exact, parse_constant=refuse))


def micros(moment):
    return (moment - EPOCH) // datetime.timedelta(microseconds=1)


def days(text):
    return (datetime.datetime.strptime(text, "%Y-%m-%d") - EPOCH).days


def time_of_text(text):
    if re.fullmatch(r"\d{1,15}", text):
        return int(text) * (1_000_000 if int(text) < 10**11 else 1_000)
    found = re.fullmatch(r"(\d{4}-\d\d-\d\d)[Tt ](\d\d:\d\d:\d\d)(?:\.(\d+))?([Zz]|[-+]\d\d:\d\d)?", text)
    day, clock, fraction, offset = found.groups()
    moment = datetime.datetime.strptime(day + " " + clock, "%Y-%m-%d %H:%M:%S")
    if offset and offset not in "Zz":
        length = datetime.timedelta(hours=int(offset[1:3]), minutes=int(offset[4:]))
        moment -= length if offset[0] == "+" else -length
    return micros(moment) + int((fraction or "").ljust(6, "0")[:6])


def value(kind, held, column):
    """(tag, content) of a value of the old table; `held` is its storage class and itself."""
    storage, value = held
    if storage == "null":
        if column["null_becomes"] is not None:
            return decoded(column["null_becomes"])
        if not column["nullable"]:
            raise ValueError("null")
        return NULL, b""
    name = kind["kind"]
    if storage == "text":
        value = value.decode()
    if name == "text":
        if storage == "blob":
            raise ValueError(storage)
        return TEXT, str(value).encode()
    if name == "uuid":
        return UUID, value if storage == "blob" else uuid.UUID(value).bytes
    if name == "int":
        return INT, struct.pack(">q", value)
    if name == "bool":
        return BOOL, {0: b"\0", 1: b"\1"}[value]
    if name == "double":
        return DOUBLE, struct.pack(">d", value)
    if name == "decimal":
        return DECIMAL, number(repr(value) if storage == "real" else str(value)).encode()
    if name == "json":
        return JSON, canonical_json(value).encode()
    if name == "time":
        scale = {"text": 0, "seconds": 1_000_000, "millis": 1_000, "micros": 1}[kind["unit"]]
        return TIME, struct.pack(">q", value * scale if scale else time_of_text(str(value)))
    if name == "date":
        return DATE, struct.pack(">i", days(value))
    if name == "bytes" and storage == "blob":
        return BYTES, value
    if name == "vector" and storage == "blob":
        count = kind["dims"]
        return VECTOR, struct.pack(">%dI" % count, *struct.unpack("<%dI" % count, value))
    raise ValueError(storage + " as " + name)


def decoded(text):
    whole = bytes.fromhex(text)
    return whole[0], whole[5:]


def encoded(tag, content):
    return struct.pack(">BI", tag, len(content)) + content


def audit_digest(row):
    """SHA-256 of the canonical text of the audit event."""
    names = """event_id event_type event_category event_outcome event_timestamp event_date service_name service_version
        actor_type actor_id actor_name resource_type resource_id resource_name event_data correlation_id
        parent_event_id trace_id span_id metadata""".split()

    def shown(tag, content):
        if tag == NULL:
            return "null"
        if tag == JSON:
            return content.decode()
        if tag == UUID:
            return quoted(str(uuid.UUID(bytes=content)))
        if tag == TIME:
            moment = EPOCH + datetime.timedelta(microseconds=struct.unpack(">q", content)[0])
            return quoted(moment.isoformat(timespec="microseconds") + "Z")
        return quoted(content.decode())

    members = {name: shown(*row[name]) for name in names if name != "event_date"}
    members["event_date"] = shown(*row["event_timestamp"])[:11] + '"'
    text = "{" + ",".join(quoted(name) + ":" + members[name] for name in sorted(members)) + "}"
    return sha256(text.encode())


def notification(held, document):
    """The columns of the audit event that a row of notification_audit becomes."""
    old = {name: of if storage != "text" else of.decode() for name, (storage, of) in held.items()}
    text = lambda text: (TEXT, text.encode())
    status = old["status"]
    outcome = {"pending": "pending", "failed": "failure", "skipped": "skipped"}.get(status, "success")
    data = {name: Number(of) if isinstance(of, int) else of for name, of in old.items()}
    correlation = old["remediation_id"]
    known = {
        "sequence": (INT, struct.pack(">q", document["notifications_from"] + old["id"])),
        "event_id": (UUID, uuid.uuid5(uuid.UUID(document["nonce"]), str(old["id"])).bytes),
        "event_type": text("notification." + status),
        "event_outcome": text(outcome),
        "event_category": text("notification"),
        "event_timestamp": (TIME, struct.pack(">q", time_of_text(old["sent_at"]))),
        "service_name": text("notification-service"),
        "actor_type": text("service"),
        "resource_type": text("notification"),
        "resource_id": text(old["notification_id"]),
        "correlation_id": text(correlation) if correlation else (NULL, b""),
        "event_data": (JSON, written(data).encode()),
        "metadata": (JSON, b"{}"),
    }
    return lambda name: known.get(name, (NULL, b""))


def row_of(part, held, document):
    """Name -> (tag, content) of every declared column, in their order."""
    row = {}
    by_name = {name: of for name, of in zip(part["read"], held) if name is not None}
    made = notification(by_name, document) if part["transform"] == "notification_audit" else None
    cells = part["cells"]
    for cell in cells:
        source = cell["from"]
        if "read" in source:
            row[cell["name"]] = value(cell["type"], held[source["read"]], cell)
        elif "value" in source:
            row[cell["name"]] = decoded(source["value"])
        elif "transformed" in source:
            row[cell["name"]] = made(source["transformed"])
    for cell in cells:
        source = cell["from"]
        if "same_as" in source:
            row[cell["name"]] = row[cells[source["same_as"]]["name"]]
        elif "date_of" in source:
            at = struct.unpack(">q", row[cells[source["date_of"]]["name"]][1])[0]
            row[cell["name"]] = DATE, struct.pack(">i", at // 86_400_000_000)
        elif "audit_digest" in source:
            row[cell["name"]] = BYTES, audit_digest(row)
    return [row[cell["name"]] for cell in cells]


def raw_key(held):
    """A key as it stands under "out"."""
    shown = {"null": lambda of: None, "integer": lambda of: of, "real": lambda of: {"real": repr(of)}}
    other = lambda storage, of: {storage: of.hex()}
    return json.dumps([shown[storage](of) if storage in shown else other(storage, of) for storage, of in held])


def order(tag, content):
    return struct.unpack(">q" if len(content) == 8 else ">i", content)[0] if tag in (INT, TIME, DATE) else content


def rows_of(table, file, document):
    out = {name: {json.dumps(key) for key in keys} for name, keys in document.get("out", {}).items()}
    for part in table["from"]:
        name = lambda column: "rowid" if column is None else '"' + column.replace('"', '""') + '"'
        columns = part["read"]
        listed = ", ".join("typeof(%s), %s" % (name(column), name(column)) for column in columns)
        for found in file.execute('SELECT %s FROM "%s"' % (listed, part["table"].replace('"', '""'))):
            held = list(zip(found[::2], found[1::2]))
            held = [(storage if isinstance(storage, str) else storage.decode(), of) for storage, of in held]
            key = raw_key([held[columns.index(column)] for column in part["key"]])
            if key in out.get(part["declaration"], ()):
                continue
            try:
                row = row_of(part, held, document)
            except Exception as error:
                raise SystemExit("%s %s: not allowed and not in quarantine: %r" % (part["table"], key, error))
            shown = [row[at] for at in part["shown"]]
            at = [table["columns"].index(name) for name in table["key"]]
            yield [order(*shown[place]) for place in at], sha256(b"\0", *(encoded(*cell) for cell in shown))


def main(path, document):
    with open(document, encoding="utf-8") as text:
        document = json.load(text)
    if document["format"] != "changeover data root 1":
        raise SystemExit("unknown format %r" % document["format"])
    file = sqlite3.connect("file:%s?mode=ro" % path, uri=True)
    file.text_factory = bytes
    whole = [b"changeover data root 1\n"]
    for table in sorted(document["tables"], key=lambda table: table["name"].encode()):
        rows = sorted(rows_of(table, file, document))
        root = merkle([leaf for _, leaf in rows])
        print(table["name"], len(rows), root.hex())
        name = table["name"].encode()
        whole.append(struct.pack(">I", len(name)) + name + struct.pack(">Q", len(rows)) + root)
    print(sha256(*whole).hex())


if __name__ == "__main__":
    main(*sys.argv[1:])

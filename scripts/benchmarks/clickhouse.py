"""Measures what the codecs and types of `tele-ship --table {kind} --create` save in ClickHouse, by kind of column.

It stores recordings of scrape and, as root, of iolat, copies the tables with other codecs and types, and prints the
bytes that the columns take compressed. The server is chdb behind tests/ship_clickhouse/engine.py.
"""

import json
import re
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
from pathlib import Path

import ship

ENGINE = Path(__file__).resolve().parents[2] / "tests/ship_clickhouse/engine.py"


def codec(pattern, codecs):
    """Gives these codecs to the columns whose type fits the pattern; without codecs, they get the server's default."""
    def change(sql_type, created):
        return sql_type, codecs if re.search(pattern, sql_type) else created
    return change


VARIANTS = {
    "as created": lambda sql_type, created: (sql_type, created),
    "LZ4": codec("", ""),
    "ZSTD alone": codec("", "CODEC(ZSTD(1))"),
    "DoubleDelta": codec(r"^(DateTime64|Nullable\(U?Int64\))", "CODEC(DoubleDelta, ZSTD(1))"),
    "T64": codec(r"^Nullable\(U?Int64\)", "CODEC(T64, ZSTD(1))"),
    "Delta": codec(r"^Nullable\(Float64\)", "CODEC(Delta(8), ZSTD(1))"),
    "Gorilla": codec(r"^Nullable\(Float64\)", "CODEC(Gorilla(8), ZSTD(1))"),
    "String": lambda sql_type, created: (re.sub(r"^LowCardinality\((.*)\)$", r"\1", sql_type), created),
}


def group(sql_type):
    """The kind of column."""
    groups = {"DateTime64": "times", "Int": "integers", "Float": "doubles", "LowCardinality": "repeated strings"}
    plain = re.sub(r"^Nullable\(", "", sql_type)
    return next((name for start, name in groups.items() if re.match(f"U?{start}", plain)), "other columns")


def run(url, sql):
    try:
        with urllib.request.urlopen(url, sql.encode()) as answer:
            return answer.read()
    except urllib.error.HTTPError as error:
        raise RuntimeError(f"{sql}: {error.read().decode()}") from error


def query(url, sql):
    return [json.loads(line) for line in run(url, f"{sql} FORMAT JSONEachRow").splitlines()]


def copy(url, database, table, change):
    """A copy of a table with other columns, merged into one part a day."""
    columns = query(url, f"SELECT name, type, compression_codec FROM system.columns WHERE database = 'r' AND table = '{table}'")
    keys = query(url, f"SELECT sorting_key FROM system.tables WHERE database = 'r' AND name = '{table}'")[0]["sorting_key"]
    definitions = []
    for column in columns:
        sql_type, codecs = change(column["type"], column["compression_codec"])
        definitions.append(f"`{column['name']}` {sql_type} {codecs}")
    for sql in (
        f"CREATE TABLE {database}.`{table}` ({', '.join(definitions)}) ENGINE = MergeTree PARTITION BY toDate(ts) "
        f"ORDER BY ({keys}) SETTINGS allow_nullable_key = 1, min_bytes_for_wide_part = 0",
        f"INSERT INTO {database}.`{table}` SELECT * FROM r.`{table}`",
        f"OPTIMIZE TABLE {database}.`{table}` FINAL",
    ):
        run(url, sql)
    # By the types as created, so that a column stays in its group.
    return {column["name"]: group(column["type"]) for column in columns}


def measure(programs, name, path):
    engine = subprocess.Popen([sys.executable, ENGINE], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        url = f"http://127.0.0.1:{int(engine.stdout.readline())}"
        args = ["--clickhouse", f"{url}?database=r", "--table", "{kind}", "--create"]
        with open(path, "rb") as lines:
            subprocess.run([programs / "tele-ship", *args], stdin=lines, check=True, capture_output=True)
        tables = [row["name"] for row in query(url, "SELECT name FROM system.tables WHERE database = 'r'")]
        sizes = {}
        for number, change in enumerate(VARIANTS.values()):
            database = f"v{number}"
            run(url, f"CREATE DATABASE {database}")
            for table in tables:
                groups = copy(url, database, table, change)
                sql = "SELECT column, sum(column_data_compressed_bytes) AS bytes FROM system.parts_columns WHERE active"
                for row in query(url, f"{sql} AND database = '{database}' AND table = '{table}' GROUP BY column"):
                    for row_name in (groups[row["column"]], "all"):
                        total = sizes.setdefault(row_name, [0] * len(VARIANTS))
                        total[number] += int(row["bytes"])
    finally:
        engine.stdin.close()
        engine.wait()
    print(f"{name}: {path.stat().st_size / 1e6:.1f} MB of lines; KB compressed")
    print(f"{'':18}" + "".join(f"{title:>13}" for title in VARIANTS))
    for row_name, row in sorted(sizes.items()):
        print(f"{row_name:18}" + "".join(f"{bytes / 1e3:13,.1f}" for bytes in row))


def main(programs):
    with tempfile.TemporaryDirectory() as folder:
        for record in (ship.scrape, ship.iolat):
            path = Path(folder) / "lines"
            try:
                with open(path, "wb") as file:
                    record(programs, file)
            except (OSError, subprocess.TimeoutExpired) as why:
                print(f"{record.__name__}: not recorded: {why}")
                continue
            measure(programs, record.__name__, path)

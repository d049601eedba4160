"""The obvious SQL for payouts, in DuckDB: run by an interpreter of its own, which has it.

Nothing of ours is imported here. Shares are joined, each line's part is written to Parquet, and
what a payee gets is the rounded sum of its parts, as one would write it in an afternoon.
"""

import json
import resource
import sys
from pathlib import Path

import duckdb

LINES = """
    COPY (
        SELECT feed, territory, tier, use_type, currency, recording_id, units,
               -amount AS receipts, rights_holder_id, share_parts,
               {amount} AS amount
        FROM '{folder}/ledger.parquet' AS ledger
        JOIN '{folder}/shares.parquet' AS shares USING (recording_id)
        WHERE account = 'recording_payable'
    ) TO '{folder}/peer_lines.parquet' (FORMAT parquet, COMPRESSION zstd)
"""
AMOUNTS = {
    # The product of an amount and a fraction of 8 decimals does not fit DECIMAL(38, 18); 12 do.
    "decimal": "CAST(-amount AS DECIMAL(26, 12)) * CAST(share_parts / 100000000 AS DECIMAL(9, 8))",
    "double": "CAST(-amount AS DOUBLE) * share_parts / 100000000",
}
TOTALS = """
    COPY (
        SELECT rights_holder_id, currency, CAST(ROUND(SUM(amount), 2) AS DECIMAL(38, 2)) AS paid
        FROM '{folder}/peer_lines.parquet'
        GROUP BY rights_holder_id, currency
    ) TO '{folder}/peer_payouts.parquet' (FORMAT parquet)
"""


def main(folder: Path, kind: str) -> None:
    """Pay out, and tell what it took."""
    connection = duckdb.connect()
    connection.execute("SET threads = 1")
    connection.execute("SET preserve_insertion_order = false")
    before = resource.getrusage(resource.RUSAGE_SELF)
    connection.execute(LINES.format(folder=folder, amount=AMOUNTS[kind]))
    connection.execute(TOTALS.format(folder=folder))
    after = resource.getrusage(resource.RUSAGE_SELF)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    told = {"cpu_seconds": round(cpu, 2), "peak_memory_mib": after.ru_maxrss // 1024}
    print(json.dumps(told))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])

"""What the scripts beside the gateway share: the least that turns a row into something to send."""

import datetime
import json
import os
import time

CODES = ["CF_XDR_MC", "CF_XDR_SHX", "CF_FRDB", "CF_WSH", "CF_WFXW", "CF_SY", "CF_YJ", "CF_CFLB", "CF_NR",
         "CF_NR_FK", "CF_JDRQ"]


def date(value):
    if isinstance(value, (datetime.date, datetime.datetime)):
        return value.strftime("%Y-%m-%d")
    parts = value.strip().replace("年", "-").replace("月", "-").replace("日", "").split("-")
    return datetime.date(*map(int, parts)).isoformat()


def send(rows):
    """Takes dicts, writes a JSON line for each; prints rows, seconds and peak memory in KiB."""
    count, begun = 0, time.perf_counter()
    with open(os.devnull, "w", encoding="utf-8") as out:
        for row in rows:
            record = {code: row[code].strip() for code in CODES[:9]}
            record["CF_NR_FK"] = f"{float(row['CF_NR_FK']):.6f}"
            record["CF_JDRQ"] = date(row["CF_JDRQ"])
            out.write(json.dumps(record, ensure_ascii=False) + "\n")
            count += 1
    seconds = time.perf_counter() - begun
    with open("/proc/self/status") as status:
        peak = next(line.split()[1] for line in status if line.startswith("VmHWM"))
    print(count, seconds, peak)

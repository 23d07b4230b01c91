#!/usr/bin/env python3
"""The result of the `flights` job, computed independently: flights.csv in, the rows without header out, sorted."""
import csv
import sys

groups = {}
with open(sys.argv[1], newline="") as file:
    for row in csv.DictReader(file):
        groups.setdefault((row["time_hour"], row["origin"]), []).append(row)

for (hour, origin), rows in sorted(groups.items()):
    delays = [int(row["dep_delay"]) for row in rows if row["dep_time"] != "NA"]
    mean = f"{sum(delays) / len(delays):.2f}" if delays else ""
    print(f"{hour},{origin},{len(rows)},{len(rows) - len(delays)},{mean}")

"""Pushes by zeep or suds: LIBRARY WSDL PROFILE FEED TOKEN FILE. Prints what came back as JSON."""
import json
import sys

library, wsdl, profile, feed, token, file = sys.argv[1:]
rows = json.load(open(file, encoding="utf-8"))


def told(total, refused, row, rule, signature):
    print(json.dumps({"total": int(total), "refused": int(refused), "row": int(row), "rule": str(rule),
                      "signed": bool(signature)}))


if library == "zeep":
    import requests
    import zeep
    session = requests.Session()
    if profile != "records":
        session.auth = (feed, token)
    client = zeep.Client(wsdl, transport=zeep.Transport(session=session))
    fault = zeep.exceptions.Fault
else:
    import suds.client
    import suds.transport.http
    more = {}
    if profile != "records":
        more["transport"] = suds.transport.http.HttpAuthenticated(username=feed, password=token)
    client = suds.client.Client(wsdl, cache=None, **more)
    fault = suds.WebFault

try:
    if profile == "records":
        records = rows
        if library == "suds":
            records = []
            for row in rows:
                record = client.factory.create("Record")
                for name, value in row.items():
                    setattr(record, name, value)
                records.append(record)
        answer = client.service.submit(token, records)
        first = next(one for one in answer.finding if str(one.level) == "error")
        told(answer.total, answer.refused, first.row, first.rule, answer.signature)
    else:
        answer = json.loads(client.service.execute(json.dumps({"tableCode": "T1", "body": rows})))
        first = next((row, one) for row in answer["errorBody"] for one in row["errors"] if one["level"] == "error")
        told(answer["totalSize"], answer["errorSize"], first[0]["rowNum"], first[1]["rule"],
             answer["signature"])
except fault as error:
    print(json.dumps({"fault": str(error)}))

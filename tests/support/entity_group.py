"""Answers to entity-group transactions, in Azure's form."""

import json

BATCH = "batchresponse_e899eb63-a09a-4bb9-84c0-0d1f5863e2be"
CHANGESET = "changesetresponse_7d94efc8-866f-4734-a300-76141ef54bc7"
CONTENT_TYPE = f"multipart/mixed; boundary={BATCH}"
ETAG = "W/\"datetime'2026-11-23T07%3A30%3A15.1234567Z'\""


def done(etag: str | None = ETAG) -> str:
    """The answer to an operation that succeeded; a delete has no etag."""
    lines = ["HTTP/1.1 204 No Content", "X-Content-Type-Options: nosniff"]
    lines += ["Cache-Control: no-cache", "DataServiceVersion: 1.0;"]
    return "\r\n".join([*lines, *([] if etag is None else [f"ETag: {etag}"]), "", ""])


def failed(status: int, code: str | None, *, header: str | None = None) -> str:
    """The single answer for all operations when one has failed."""
    lines = [f"HTTP/1.1 {status} Reason", "X-Content-Type-Options: nosniff"]
    lines += ["DataServiceVersion: 3.0;", "Content-Type: application/json;odata=minimalmetadata"]
    lines += [] if header is None else [f"x-ms-error-code: {header}"]
    return "\r\n".join([*lines, "", "" if code is None else odata_error(code)])


def odata_error(code: str) -> str:
    """The JSON of an error."""
    message = {"lang": "en-US", "value": "0:It did not work.\nRequestId:1\nTime:2026-11-23"}
    return json.dumps({"odata.error": {"code": code, "message": message}})


def answer(*responses: str) -> bytes:
    """The body around them."""
    part = f"--{CHANGESET}\r\nContent-Type: application/http\r\nContent-Transfer-Encoding: binary"
    head = f"--{BATCH}\r\nContent-Type: multipart/mixed; boundary={CHANGESET}\r\n\r\n"
    parts = "".join(f"{part}\r\n\r\n{response}\r\n" for response in responses)
    return f"{head}{parts}--{CHANGESET}--\r\n--{BATCH}--\r\n".encode()

"""A bare Flask route behind waitress, set as `nectar serve` sets it: what an answer costs when nothing is done."""

from __future__ import annotations

import sys

from flask import Flask, Response, jsonify, request
from waitress.server import create_server

app = Flask("bare")


@app.route("/api/bare", methods=["GET", "POST"])
def bare() -> Response:
    """Answer as much as a status is."""
    data = {
        "job_status": "DONE",
        "resource_url": f"{request.host_url}api/targets/chains/load/shapes_chain/OneTask/{'0' * 32}/files/out.txt",
        "expires_in": None,
        "run_id": "20261120T000000-00000000",
        "run_state": "SUCCESS",
        "error": None,
    }
    return jsonify({"data": data, "message": "success", "status": 200})


server = create_server(
    app,
    host="127.0.0.1",
    port=0,
    threads=16,
    ident=None,
    connection_limit=2000,
    channel_timeout=20,
    asyncore_use_poll=True,
    max_request_body_size=(1 << 20) + 1,
    max_request_header_size=64 << 10,
    clear_untrusted_proxy_headers=True,
    backlog=4096,
)
print(f"serving http://127.0.0.1:{server.effective_port}/api/bare", file=sys.stderr, flush=True)
server.run()

"""LitServe: one worker, batching, the fast queue (ZeroMQ) that its docs advise for high throughput."""

import sys

import litserve
from fastapi import Response
from ranking import Ranking, Store


class Rank(litserve.LitAPI):
    def setup(self, device):
        self.ranking, self.store = Ranking(), Store()

    def decode_request(self, request):
        return request["user_id"], request["candidates"]

    def batch(self, inputs):
        return inputs

    def predict(self, inputs):
        return self.ranking.rank_many(inputs, self.store.read([user for user, _ in inputs]))

    def unbatch(self, output):
        return output

    def encode_response(self, output):
        return Response(output, media_type="application/json")


if __name__ == "__main__":
    api = Rank(
        max_batch_size=32, batch_timeout=0.001,
        api_path="/rank",
    )  # fmt: skip
    server = litserve.LitServer(api, accelerator="cpu", workers_per_device=1, fast_queue=True, timeout=10)
    server.run(
        host="127.0.0.1", port=int(sys.argv[1]), num_api_servers=1, generate_client_file=False, log_level="warning",
        access_log=False,
    )  # fmt: skip

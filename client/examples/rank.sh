#!/bin/sh
# Ranks candidates with curl: sh client/examples/rank.sh http://localhost:8000
curl --silent --show-error --fail --include --max-time 2 "${1:-http://localhost:8000}/rank" \
  -H 'content-type: application/json' \
  -d '{"user_id": "42", "candidates": ["50", "181", "no-such-film"]}'

#!/usr/bin/env bash
# Two agents on loopback addresses, without containerd or root. Agent b fetches a blob that only agent a has.
# Needs `make setup` first. Everything it makes is removed at the end.
set -euo pipefail
shorthaul=$(cd "$(dirname "$0")/../.." && pwd)/.venv/bin/shorthaul
folder=$(mktemp -d)
trap 'kill $(jobs -p) 2>/dev/null; wait; rm -r "$folder"' EXIT

cat >"$folder/peers.yaml" <<PEERS
- {name: a, address: 127.9.9.1, port: 30023, zone: z}
- {name: b, address: 127.9.9.2, port: 30023, zone: z}
PEERS
"$shorthaul" key new "$folder/cluster.key" >/dev/null

start() { # NAME ADDRESS
    mkdir -p "$folder/$1/blobs/sha256"
    echo '{"imageLayoutVersion": "1.0.0"}' >"$folder/$1/oci-layout"
    echo '{"schemaVersion": 2, "manifests": []}' >"$folder/$1/index.json"
    cat >"$folder/$1.yaml" <<AGENT
node:       {name: $1, address: $2}
placement:  {zone: z}
listen:     {hostport: "$2:30020", peer: "$2:30023", nodeport: "$2:30022", admin: "$2:9090"}
store:      "oci-layout://$folder/$1"
membership: {static: $folder/peers.yaml}
peering:    {key: $folder/cluster.key}
AGENT
    "$shorthaul" agent --config "$folder/$1.yaml" --log-level warning &
    until [ "$(curl -s "http://$2:9090/readyz")" = ok ]; do sleep 0.2; done
}

start a 127.9.9.1
start b 127.9.9.2
head -c 5000000 /dev/urandom >"$folder/blob"
digest=sha256:$(sha256sum <"$folder/blob" | cut -c1-64)
mv "$folder/blob" "$folder/a/blobs/sha256/${digest#sha256:}"
sleep 1 # agent a notices the new file

echo "== the answer of agent b, which asked agent a"
curl -s -o "$folder/received" -D - "http://127.9.9.2:30020/v2/try/blobs/$digest"
echo "== what arrived: sha256:$(sha256sum <"$folder/received" | cut -c1-64)"
echo "== where agent b would take it from"
"$shorthaul" explain --url http://127.9.9.2:9090 "$digest"
echo "== the cluster as agent b sees it"
"$shorthaul" topology --url http://127.9.9.2:9090

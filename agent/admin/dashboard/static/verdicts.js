/** What a verdict on a connection means, in words. Pure. The verdicts are those of `/api/flows`. */

import { name } from "./format.js";

/** @typedef {import("./parts.js").Level} Level */

/** @type {Record<string, {level: Level, brief: string, words: string}>} */
const KNOWN = {
  DIRECT: { level: "ok", brief: "direct", words: "straight to this node's agent; nothing was translated at either end" },
  HOSTPORT_NAT: { level: "warn", brief: "port map", words: "a CNI port map sent it to a pod of this node: local, but through netfilter" },
  SOCKET_LB: { level: "warn", brief: "rewritten", words: "another eBPF program rewrote connect()" },
  KUBE_PROXY: { level: "warn", brief: "kube-proxy", words: "kube-proxy translated it, to an address of this node" },
  PROXIED: { level: "bad", brief: "another process", words: "another process of this node took it, not the agent" },
  KUBE_PROXY_REMOTE: { level: "bad", brief: "left the node", words: "kube-proxy sent it to another node" },
  FAILED: { level: "bad", brief: "failed", words: "it was not connected" },
  UNKNOWN: { level: "plain", brief: "not proved", words: "there is not enough evidence" },
};

// containerd's second choice is a NodePort: that kube-proxy takes it there is how NodePorts work.
const EXPECTED_AT_NODEPORT = new Set(["KUBE_PROXY", "KUBE_PROXY_REMOTE"]);

/**
 * @param {unknown} verdict null: none
 * @param {unknown} [endpoint] `hostport` or `nodeport`
 */
export function verdictOf(verdict, endpoint) {
  if (typeof verdict !== "string" || verdict === "") {
    return { level: /** @type {Level} */ ("plain"), brief: "no verdict", words: "no probe saw this connection" };
  }
  const known = Object.hasOwn(KNOWN, verdict) ? KNOWN[verdict] : null;
  if (known === null) return { level: /** @type {Level} */ ("plain"), brief: name(verdict, 40), words: "this page does not know that verdict" };
  if (endpoint === "nodeport" && EXPECTED_AT_NODEPORT.has(verdict)) return { ...known, level: /** @type {Level} */ ("plain") };
  return known;
}

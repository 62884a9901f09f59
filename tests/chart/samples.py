"""Values with which the chart is rendered: each switch at least once, and the combinations that matter."""

from typing import Any

SAMPLES: dict[str, dict[str, Any]] = {
    "defaults": {},
    "hostport mode": {"network": "hostPort"},
    "hostport mode, everything on": {
        "network": "hostPort",
        "metrics": {"enabled": True, "monitor": "ServiceMonitor"},
        "networkPolicy": {"nodeCIDRs": ["10.0.0.0/16"]},
        "updateStrategy": {"maxUnavailable": "10%"},
    },
    "hostport alone": {"nodePort": {"enabled": False}},
    "clusterip": {"configure": {"endpoints": ["hostport", "clusterip"]}},
    "registries by name": {
        "configure": {
            "registries": ["docker.io", "registry.example.com:5000"],
            "capabilities": ["pull"],
            "dialTimeout": "",
            "dropIn": True,
        }
    },
    "registries that decide": {
        "config": {
            "registries": {
                "authorize": [
                    {"match": "registry.example.com:5000", "by": "registry"},
                    {"match": "ghcr.io/*", "by": "registry"},
                    {"match": "quay.io/acme/*", "by": "registry"},
                    {"match": "docker.io", "by": "mirror"},
                    {"match": "late.example.com", "by": "registry"},
                ]
            }
        }
    },
    "one fetch for all zones": {"config": {"cold_start": {"scope": "cluster", "claim_wait_s": 30}}},
    "no claims": {"config": {"cold_start": {"mode": False, "claim_start_s": 30}}},
    "nothing written": {"configure": {"enabled": False}},
    "no probe": {"probe": {"enabled": False}},
    "no right to nodes": {"membership": {"nodeLabels": False}},
    "no objects of its own": {
        "serviceAccount": {"create": False, "name": "mine"},
        "rbac": {"create": False},
        "networkPolicy": {"enabled": False},
    },
    "metrics for a ServiceMonitor": {
        "metrics": {"enabled": True, "monitor": "ServiceMonitor", "monitorLabels": {"release": "prometheus"}}
    },
    "metrics for a PodMonitor, on IPv6": {
        "metrics": {"enabled": True, "address": "::", "monitor": "PodMonitor"}
    },
    "policies": {
        "networkPolicy": {
            "nodeCIDRs": ["10.0.0.0/16", "fd00::/64"],
            "metricsFrom": [{"namespaceSelector": {}}],
            "cilium": True,
        },
        "metrics": {"enabled": True},
    },
    "open, for a lab": {"peering": {"open": True, "existingSecret": ""}},
    "open for an upgrade": {"peering": {"open": True}},
    "a key of one's own": {"peering": {"existingSecret": "my.key"}, "listen": {"localCallers": "containerd"}},
    "certificates in a Secret": {"peering": {"tls": {"secretName": "agents-tls"}}},
    "certificates from a driver": {
        "peering": {
            "tls": {
                "volume": {"csi": {"driver": "csi.cert-manager.io", "readOnly": True}},
                "name": "shorthaul.internal",
            }
        },
        "listen": {"localCallers": "any"},
    },
    "an index of the chart's own": {"valkey": {"enabled": True, "existingSecret": "shorthaul-valkey"}},
    "an index of the chart's own, for the pod network": {
        "network": "hostPort",
        "valkey": {
            "enabled": True,
            "existingSecret": "mine",
            "nodes": 5000,
            "image": {"digest": "sha256:" + "b" * 64},
            "resources": {"limits": {"memory": "2Gi"}},
            "priorityClassName": "",
            "nodeSelector": {"pool": "infra"},
            "tolerations": [{"key": "infra", "operator": "Exists"}],
            "affinity": {"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": []}},
        },
        "networkPolicy": {"nodeCIDRs": ["10.0.0.0/16"]},
        "config": {"valkey": {"prefix": "east"}},
    },
    "an index of the chart's own, with Cilium": {
        "valkey": {"enabled": True, "existingSecret": "v"},
        "networkPolicy": {"cilium": True, "nodeCIDRs": ["10.0.0.0/16"]},
        "priorityClassQuota": True,
    },
    "an index of the chart's own, with a certificate": {
        "valkey": {"enabled": True, "existingSecret": "v", "tls": {"secretName": "valkey-tls"}},
    },
    "an index in a server": {
        "index": {"url": "valkey://valkey.db.svc:6379/2", "passwordSecret": {"name": "index-login"}},
        "config": {
            "valkey": {"prefix": "east", "cluster": "east", "username": "shorthaul", "timeout_s": 0.3}
        },
    },
    "an index with certificates": {
        "index": {
            "url": "valkeys+sentinel://shorthaul@s1.example,s2.example:26380/index",
            "passwordSecret": {"name": "index-login", "key": "pass"},
            "tls": {"secretName": "index-tls", "clientCertificate": True},
        },
        "config": {"valkey": {"server_name": "valkey.example"}},
    },
    "peers are the index": {"index": {"url": "scatter"}},
    "part of the nodes": {
        "nodeSelector": {"pool": "a"},
        "tolerations": [],
        "affinity": {
            "nodeAffinity": {
                "requiredDuringSchedulingIgnoredDuringExecution": {
                    "nodeSelectorTerms": [{"matchExpressions": [{"key": "gpu", "operator": "DoesNotExist"}]}]
                }
            }
        },
    },
    "operations": {
        "podDisruptionBudget": {"enabled": True, "minAvailable": 3},
        "priorityClassQuota": True,
        "updateStrategy": {"maxSurge": "5%"},
        "imagePullSecrets": [{"name": "pull"}],
        "podAnnotations": {"a/b": "c"},
        "podLabels": {"team": "x"},
        "podSecurityContext": {"seLinuxOptions": {"type": "spc_t"}},
        "stateDirectory": "/var/lib/shorthaul",
        "serviceAccount": {"annotations": {"x": "y"}},
    },
    "a secret and an object more": {
        "extraVolumes": [{"name": "key", "secret": {"secretName": "key"}}],
        "extraVolumeMounts": [{"name": "key", "mountPath": "/etc/key", "readOnly": True}],
        "extraObjects": [
            {
                "apiVersion": "v1",
                "kind": "Secret",
                "metadata": {"name": '{{ include "shorthaul.fullname" . }}-key', "namespace": "images"},
                "stringData": {"key": "value"},
            }
        ],
    },
    "pinned": {
        "image": {"repository": "registry.example.com:5000/a/shorthaul", "digest": "sha256:" + "a" * 64}
    },
    "other ports": {
        "ports": {"hostport": 31020, "peer": 31020, "nodeport": 31022, "admin": 31090, "probe": 31091},
        "nodePort": {"port": 31021},
    },
    "configured": {
        "config": {
            "lookup": {"at_once": 32},
            "transfer": {"upload_bytes_max": 8589934592, "upload_bytes_per_s": 1 << 30},
            "tags": {"exclude": ["rc-*", "ghcr.io/acme/*"]},
            "registries": {"include": ["docker.io/*", "*:v1.*"]},
            "placement": {"region": "eu"},
            "costs": {"pairs": [{"from": "a", "to": "b", "usd_per_gb": 0.01}]},
            "probe": {"canary_interval_s": 20, "services": ["10.96.0.10:30021"]},
            "log": {"level": "debug"},
            "stop": {"drain_s": 20},
        },
        "agent": {"logFormat": "text", "extraArgs": ["--log-level", "debug"]},
    },
    **{
        f"flavour {name}": {"containerd": {"flavour": name}}
        for name in ("k3s", "rke2", "k0s", "microk8s", "talos", "gke", "eks", "aks")
    },
    "paths by hand": {
        "containerd": {
            "socket": "/run/c/c.sock",
            "root": "/data/containerd",
            "configDirectory": "/etc/c",
            "certsDirectory": "/etc/c/mirrors",
            "namespace": "images",
        }
    },
}

{{/* The index of large clusters: which server, what the agents need for it, and the chart's own small one. */}}

{{- define "shorthaul.indexDirectory" -}}/etc/shorthaul-index{{- end -}}

{{- define "shorthaul.valkeyName" -}}{{ include "shorthaul.fullname" . }}-valkey{{- end -}}

{{- define "shorthaul.valkeySelector" -}}
{{ include "shorthaul.identity" . }}
app.kubernetes.io/component: index
{{- end -}}

{{- define "shorthaul.valkeySecret" -}}
{{- .Values.valkey.existingSecret | default (include "shorthaul.valkeyName" .) -}}
{{- end -}}

{{/* Whether the index is in a server. */}}
{{- define "shorthaul.served" -}}
{{- if or .Values.valkey.enabled (not (has .Values.index.url (list "" "scatter"))) -}}true{{- end -}}
{{- end -}}

{{/*
Where Kubernetes says the Service's address. The agents are on the host's network, where the cluster's names are not known;
Services come before the pods that use them. In brackets, for IPv6.
*/}}
{{- define "shorthaul.valkeyUrl" -}}
valkey{{ if .Values.valkey.tls.secretName }}s{{ end }}://[$({{ include "shorthaul.valkeyName" . | upper | replace "-" "_" }}_SERVICE_HOST)]:6379
{{- end -}}

{{/* The Secret with the password and its entry, as a JSON list. Empty: there is none. */}}
{{- define "shorthaul.indexPassword" -}}
{{- if .Values.valkey.enabled -}}{{ list (include "shorthaul.valkeySecret" .) "password" | toJson }}
{{- else if .Values.index.passwordSecret.name -}}{{ list .Values.index.passwordSecret.name .Values.index.passwordSecret.key | toJson }}
{{- else -}}[]
{{- end -}}
{{- end -}}

{{/* The Secret with the CAs of the server's certificate. Empty: there is none. */}}
{{- define "shorthaul.indexCa" -}}
{{- .Values.valkey.enabled | ternary .Values.valkey.tls.secretName .Values.index.tls.secretName -}}
{{- end -}}

{{/* Whether the agents need a file for the server. */}}
{{- define "shorthaul.indexFiles" -}}
{{- if or (include "shorthaul.indexPassword" . | fromJsonArray) (include "shorthaul.indexCa" .) -}}true{{- end -}}
{{- end -}}

{{/*
One directory for all of them, which the kubelet writes anew when a Secret changes. A Secret that is missing keeps no agent
from starting: it asks its neighbours until there is one.
*/}}
{{- define "shorthaul.indexVolume" -}}
- name: index
  projected:
    defaultMode: 0400
    sources:
      {{- with (include "shorthaul.indexPassword" . | fromJsonArray) }}
      - secret:
          name: {{ index . 0 | quote }}
          optional: true
          items: [{key: {{ index . 1 | quote }}, path: password}]
      {{- end }}
      {{- with (include "shorthaul.indexCa" .) }}
      - secret:
          name: {{ . | quote }}
          optional: true
          items:
            - {key: ca.crt, path: ca.crt}
            {{- if $.Values.index.tls.clientCertificate }}
            - {key: tls.crt, path: tls.crt}
            - {key: tls.key, path: tls.key}
            {{- end }}
      {{- end }}
{{- end -}}

{{/* The agents' settings of all this, as far as they are the same on all nodes. */}}
{{- define "shorthaul.indexSettings" -}}
{{- $directory := include "shorthaul.indexDirectory" . -}}
{{- $files := dict -}}
{{- if (include "shorthaul.indexPassword" . | fromJsonArray) }}{{ $_ := set $files "password_file" (printf "%s/password" $directory) }}{{ end -}}
{{- if include "shorthaul.indexCa" . -}}
{{- $_ := set $files "ca_file" (printf "%s/ca.crt" $directory) -}}
{{- if .Values.index.tls.clientCertificate -}}
{{- $_ := set $files "certificate_file" (printf "%s/tls.crt" $directory) -}}
{{- $_ := set $files "key_file" (printf "%s/tls.key" $directory) -}}
{{- end -}}
{{- end -}}
{{- if and .Values.valkey.enabled .Values.valkey.tls.secretName -}}
{{- $_ := set $files "server_name" (.Values.valkey.tls.name | default (printf "%s.%s.svc" (include "shorthaul.valkeyName" .) .Release.Namespace)) -}}
{{- end -}}
{{- $own := dict -}}
{{- if $files }}{{ $_ := set $own "valkey" $files }}{{ end -}}
{{- if .Values.index.url }}{{ $_ := set $own "index" .Values.index.url }}{{ end -}}
{{- toJson $own -}}
{{- end -}}

{{/*
The view of names. Usually the node's own: the agents need no name of the cluster, and work while its DNS does not. A server
that is named as a Service needs the cluster's, which passes other names on.
*/}}
{{- define "shorthaul.dnsPolicy" -}}
{{- if regexMatch "([.]svc([.:,/]|$)|(//|@|,)[A-Za-z][A-Za-z0-9-]*([:,/]|$))" (regexReplaceAll "//[^/@]*@" .Values.index.url "//") -}}ClusterFirstWithHostNet{{- else -}}Default{{- end -}}
{{- end -}}

{{/*
What the chart's Valkey may keep, in MiB: 64, and 0.15 for each node. docs/large-clusters.md has what is measured.
*/}}
{{- define "shorthaul.valkeyMemory" -}}
{{- .Values.valkey.maxMemoryMi | default (add 64 (ceil (mulf 0.15 .Values.valkey.nodes))) -}}
{{- end -}}

{{/*
The pod may have half as much again, for what the allocator wastes, and 64 MiB for the process itself. It asks for half: few
clusters have so many different digests.
*/}}
{{- define "shorthaul.valkeyResources" -}}
{{- $keeps := include "shorthaul.valkeyMemory" . | int -}}
{{- $own := dict
      "requests" (dict "cpu" (printf "%dm" (add 50 (div (int .Values.valkey.nodes) 10))) "memory" (printf "%dMi" (add 64 (div $keeps 2))))
      "limits" (dict "memory" (printf "%dMi" (add 64 (div (mul 3 $keeps) 2)))) -}}
{{- mergeOverwrite $own (deepCopy .Values.valkey.resources) | toJson -}}
{{- end -}}

{{/*
Writes its configuration and becomes the server. The password is told by its hash, so it may have any characters. Whoever has
it may use the agents' keys and commands, and nothing else: no other key, no configuration. A password or certificate that was
replaced ends the server, and the kubelet starts it with the new one. The kubelet would look at
$( ), and makes one $ of two.
*/}}
{{- define "shorthaul.valkeyScript" -}}
umask 077
cd /run/valkey
secrets() {
    cat /etc/valkey-password/password{{ if .Values.valkey.tls.secretName }} /etc/valkey-tls/*{{ end }} 2>&1 | sha256sum
}
secrets >secrets.used
IFS= read -r password </etc/valkey-password/password || [ -n "$password" ]
{
    printf 'user default on resetkeys resetchannels ~{{ .Values.config.valkey | default dict | dig "prefix" "shorthaul" }}:* -@all {{ include "shorthaul.valkeyCommands" . }} #'
    printf '%s' "$password" | sha256sum | cut -d ' ' -f 1
    cat <<END
{{- if .Values.valkey.tls.secretName }}
port 0
tls-port 6379
tls-cert-file /etc/valkey-tls/tls.crt
tls-key-file /etc/valkey-tls/tls.key
tls-ca-cert-file /etc/valkey-tls/ca.crt
tls-auth-clients no
{{- else }}
port 6379
{{- end }}
bind * -::*
protected-mode no
save ""
appendonly no
maxmemory {{ include "shorthaul.valkeyMemory" . }}mb
maxmemory-policy noeviction
# Each agent has one connection, and two agents of a node overlap in an upgrade.
maxclients {{ max 10000 (add 100 (mul 3 (int .Values.valkey.nodes))) }}
tcp-keepalive 60
tcp-backlog 4096
# An agent that does not read what it asked for must not fill the memory of all.
client-output-buffer-limit normal 16mb 4mb 30
END
} >valkey.conf
unset password
(
    while sleep 10; do
        secrets >secrets.now
        cmp -s secrets.used secrets.now || kill "$$$$"
    done
) &
exec valkey-server /run/valkey/valkey.conf
{{- end -}}

{{/* Without the password: that it is refused says as much as PONG. A server that is frozen says nothing. */}}
{{- define "shorthaul.valkeyProbe" -}}
exec: {command: [/bin/sh, -c, "valkey-cli {{ if .Values.valkey.tls.secretName }}--tls --insecure {{ end }}ping 2>&1 | grep -qE 'PONG|NOAUTH'"]}
{{- end -}}

{{/* Of the agents. docs/large-clusters.md has the same for a server of one's own; a test holds both against each other. */}}
{{- define "shorthaul.valkeyCommands" -}}
+get +mget +set +setbit +getrange +setrange +strlen +del +expire +pexpire +expireat +ttl +eval +evalsha +script|load +time +ping +select +client|id +client|tracking +client|caching +client|setname +info
{{- end -}}

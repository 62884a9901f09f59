{{/* The cluster's key and certificate: where they are, and who has them. */}}

{{/* Whether the cluster can be asked. `helm template` and what is built on it (Argo CD) find nothing, whatever is there. */}}
{{- define "shorthaul.online" -}}
{{- if lookup "v1" "Namespace" "" "kube-system" -}}true{{- end -}}
{{- end -}}

{{- define "shorthaul.keySecret" -}}
{{- .Values.peering.existingSecret | default (printf "%s-key" (include "shorthaul.fullname" .)) -}}
{{- end -}}

{{/* Whether the agents have a key. Without one they are open to all: a lab that is rendered without a cluster. */}}
{{- define "shorthaul.keyed" -}}
{{- if or .Values.peering.existingSecret (not .Values.peering.open) (include "shorthaul.online" .) -}}true{{- end -}}
{{- end -}}

{{/* Whether containerd is told a token: for all but a HostPort whose callers the kernel knows. */}}
{{- define "shorthaul.hostsKeyed" -}}
{{- $endpoints := include "shorthaul.endpoints" . | fromJsonArray -}}
{{- $wanted := or (has "nodeport" $endpoints) (has "clusterip" $endpoints) (eq .Values.network "hostPort") -}}
{{- if and $wanted (include "shorthaul.keyed" .) -}}true{{- end -}}
{{- end -}}

{{- define "shorthaul.keyDirectory" -}}/etc/shorthaul-key{{- end -}}
{{- define "shorthaul.keyFile" -}}{{ include "shorthaul.keyDirectory" . }}/keys{{- end -}}
{{- define "shorthaul.tlsDirectory" -}}/etc/shorthaul-tls{{- end -}}

{{- define "shorthaul.tls" -}}
{{- if or .Values.peering.tls.secretName .Values.peering.tls.volume -}}true{{- end -}}
{{- end -}}

{{/* A directory and not a single file of it (subPath), which the kubelet would never write again. */}}
{{- define "shorthaul.keyMount" -}}
- {name: key, mountPath: {{ include "shorthaul.keyDirectory" . }}, readOnly: true}
{{- end -}}

{{- define "shorthaul.keyVolume" -}}
- name: key
  secret:
    secretName: {{ include "shorthaul.keySecret" . | quote }}
    defaultMode: 0400
    items: [{key: keys, path: keys}]
{{- end -}}

{{- define "shorthaul.tlsVolume" -}}
- name: tls
  {{- with .Values.peering.tls.volume }}
  {{- toYaml . | nindent 2 }}
  {{- else }}
  secret: {secretName: {{ .Values.peering.tls.secretName | quote }}, defaultMode: 0400}
  {{- end }}
{{- end -}}

{{/* The agents' settings of all this. */}}
{{- define "shorthaul.peering" -}}
{{- $peering := dict "open" .Values.peering.open -}}
{{- if include "shorthaul.keyed" . }}{{ $_ := set $peering "key" (include "shorthaul.keyFile" .) }}{{ end -}}
{{- if include "shorthaul.tls" . -}}
{{- $directory := include "shorthaul.tlsDirectory" . -}}
{{- $tls := dict "certificate" (printf "%s/tls.crt" $directory) "key" (printf "%s/tls.key" $directory) "ca" (printf "%s/ca.crt" $directory) -}}
{{- $name := .Values.peering.tls.name | default (printf "%s-peers.%s.svc" (include "shorthaul.fullname" .) .Release.Namespace) -}}
{{- $_ := set $tls "name" $name -}}
{{- $_ := set $peering "tls" $tls -}}
{{- end -}}
{{- toJson $peering -}}
{{- end -}}

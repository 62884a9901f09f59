{{/* What the chart knows of the nodes: the flavour and its paths, which endpoints containerd asks. */}}

{{/* The version, without what distributions append: pre-releases sort below the release that they are of. */}}
{{- define "shorthaul.minor" -}}
{{- with .Capabilities.KubeVersion -}}
{{- regexFind "^[0-9]+" (.Minor | toString) -}}
{{- end -}}
{{- end -}}

{{- define "shorthaul.since" -}}
{{- if ge (int (include "shorthaul.minor" .root)) (int .minor) -}}true{{- end -}}
{{- end -}}

{{- define "shorthaul.flavour" -}}
{{- $version := .Capabilities.KubeVersion.Version -}}
{{- if ne .Values.containerd.flavour "auto" -}}{{ .Values.containerd.flavour }}
{{- else if contains "+k3s" $version -}}k3s
{{- else if contains "+rke2" $version -}}rke2
{{- else if contains "+k0s" $version -}}k0s
{{- else if contains "-gke." $version -}}gke
{{- else if contains "-eks-" $version -}}eks
{{- else -}}containerd
{{- end -}}
{{- end -}}

{{/* The paths of containerd on the node, as YAML: those of the flavour, unless a value says otherwise. */}}
{{- define "shorthaul.paths" -}}
{{- $flavours := .Files.Get "files/flavours.yaml" | fromYaml -}}
{{- $paths := get $flavours (include "shorthaul.flavour" .) -}}
{{- $said := .Values.containerd -}}
{{- $config := $said.configDirectory | default $paths.configDirectory -}}
{{- $moved := $paths.certsDirectory | replace $paths.configDirectory $config -}}
configDirectory: {{ $config | quote }}
configFile: {{ $paths.configFile | quote }}
certsDirectory: {{ $said.certsDirectory | default $moved | quote }}
socket: {{ $said.socket | default $paths.socket | quote }}
root: {{ $said.root | default $paths.root | quote }}
{{- end -}}

{{/* What containerd is told to ask, in order, as a JSON list. */}}
{{- define "shorthaul.endpoints" -}}
{{- if .Values.configure.endpoints -}}{{ .Values.configure.endpoints | toJson }}
{{- else if .Values.nodePort.enabled -}}["hostport","nodeport"]
{{- else -}}["hostport"]
{{- end -}}
{{- end -}}

{{- define "shorthaul.uses" -}}
{{- if has .endpoint (include "shorthaul.endpoints" .root | fromJsonArray) -}}true{{- end -}}
{{- end -}}

{{- define "shorthaul.hostIp" -}}
- name: HOST_IP
  valueFrom: {fieldRef: {fieldPath: status.hostIP}}
{{- end -}}

{{- define "shorthaul.settingsEnv" -}}
- name: NODE_NAME
  valueFrom: {fieldRef: {fieldPath: spec.nodeName}}
- name: SHORTHAUL_CONFIG
  value: /etc/shorthaul/agent.yaml
{{- end -}}

{{/* The environment of the agent and the probe. What differs by node goes over the one configuration of all. */}}
{{- define "shorthaul.agentEnv" -}}
{{ include "shorthaul.settingsEnv" . }}
- name: POD_IP
  valueFrom: {fieldRef: {fieldPath: status.podIP}}
- name: SHORTHAUL_SET
  value: |-
    node.name="$(NODE_NAME)"
    node.address="$(POD_IP)"
    listen.peer="$(POD_IP):{{ .Values.ports.peer }}"
    listen.nodeport="$(POD_IP):{{ .Values.ports.nodeport }}"
    {{- if eq .Values.network "hostPort" }}
    listen.hostport="$(POD_IP):{{ include "shorthaul.podHostport" . }}"
    node.pod_network=true
    {{- end }}
    {{- if .Values.valkey.enabled }}
    index="{{ include "shorthaul.valkeyUrl" . }}"
    {{- end }}
{{- end -}}

{{/* The same for a probe in a pod of its own: on the host's network, where containerd's connections begin. */}}
{{- define "shorthaul.probeEnv" -}}
{{ include "shorthaul.settingsEnv" . }}
{{ include "shorthaul.hostIp" . }}
- name: SHORTHAUL_SET
  value: |-
    node.name="$(NODE_NAME)"
    node.address="$(HOST_IP)"
    listen.hostport="127.0.0.1:{{ .Values.ports.hostport }}"
{{- end -}}

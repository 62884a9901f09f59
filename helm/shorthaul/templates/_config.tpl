{{/* The agents' configuration, one for all nodes: what the chart knows, and the values below `config`. JSON is YAML. */}}

{{- define "shorthaul.config" -}}
{{- $host := eq .Values.network "host" -}}
{{- $paths := include "shorthaul.paths" . | fromYaml -}}
{{- /* In a pod on the pod network the kubelet asks the pod's address. */ -}}
{{- $admin := or .Values.metrics.enabled (not $host) | ternary .Values.metrics.address "127.0.0.1" -}}
{{- $listen := dict "admin" (include "shorthaul.endpoint" (list $admin .Values.ports.admin)) -}}
{{- $_ := set $listen "local_callers" .Values.listen.localCallers -}}
{{- if $host }}{{ $_ := set $listen "hostport" (printf "127.0.0.1:%d" (int .Values.ports.hostport)) }}{{ end -}}
{{- $kubernetes := dict
      "service" (printf "%s-peers" (include "shorthaul.fullname" .))
      "namespace" .Release.Namespace
      "port_name" "peer"
      "node_labels" .Values.membership.nodeLabels -}}
{{- $store := printf "containerd://%s?namespace=%s&root=%s" $paths.socket (.Values.containerd.namespace | urlquery) ($paths.root | urlquery) -}}
{{- $metrics := .Values.metrics.enabled | ternary .Values.metrics.address "127.0.0.1" -}}
{{- $probe := dict
      "socket" (printf "/run/%s/probe.sock" ($host | ternary "shorthaul-pod" "shorthaul"))
      "hosts_dir" (printf "/host%s" $paths.certsDirectory)
      "node_port" (int .Values.nodePort.port)
      "metrics" (include "shorthaul.endpoint" (list $metrics .Values.ports.probe)) -}}
{{- $own := dict
      "listen" $listen
      "store" $store
      "membership" (dict "kubernetes" $kubernetes)
      "peering" (include "shorthaul.peering" . | fromJson)
      "health" (dict "socket" "/run/shorthaul-pod/health.sock")
      "probe" $probe -}}
{{- /* Of this release alone: agents of two releases would take the ports from each other for ever. */ -}}
{{- $release := printf "%s/%s" .Release.Namespace (include "shorthaul.fullname" .) | sha256sum | trunc 8 -}}
{{- if $host }}{{ $_ := set $own "handover" (dict "socket" (printf "/run/shorthaul/handover-%s.sock" $release)) }}{{ end -}}
{{- if not .Values.membership.nodeLabels }}{{ $_ := set $own "placement" (dict "labels_file" "/etc/podinfo/labels") }}{{ end -}}
{{- $_ := mergeOverwrite $own (include "shorthaul.indexSettings" . | fromJson) -}}
{{- with .Values.stateDirectory }}{{ $_ := set $own "state_dir" . }}{{ end -}}
{{- mustMergeOverwrite (deepCopy .Values.config) $own | mustToPrettyJson -}}
{{- end -}}

{{- define "shorthaul.endpoint" -}}
{{- $address := index . 0 -}}
{{- contains ":" $address | ternary (printf "[%s]" $address) $address }}:{{ index . 1 }}
{{- end -}}

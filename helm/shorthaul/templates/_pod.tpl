{{/* The containers of the pod. */}}

{{- define "shorthaul.container" -}}
image: {{ include "shorthaul.image" . | quote }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
{{- end -}}

{{/* No right but those named. */}}
{{- define "shorthaul.security" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
  {{- with . }}
  add: {{ toJson . }}
  {{- end }}
{{- end -}}

{{/* containerd's configuration, below /host. certs.d is a mount of its own: the only directory that may be written. */}}
{{- define "shorthaul.configMounts" -}}
- {name: containerd-config, mountPath: {{ printf "/host%s" .paths.configDirectory | quote }}, readOnly: {{ not .whole }}}
- {name: containerd-certs, mountPath: {{ printf "/host%s" .paths.certsDirectory | quote }}, readOnly: {{ not .writable }}}
{{- end -}}

{{- define "shorthaul.rollingUpdate" -}}
{{- $host := eq .Values.network "host" -}}
{{- $said := .Values.updateStrategy -}}
maxSurge: {{ eq (toString $said.maxSurge) "" | ternary ($host | ternary 1 0) $said.maxSurge }}
maxUnavailable: {{ eq (toString $said.maxUnavailable) "" | ternary ($host | ternary 0 1) $said.maxUnavailable }}
{{- end -}}

{{- define "shorthaul.podHostport" -}}
{{- /* In the pod, the HostPort's target: another port than those of peers, which have no business there. */ -}}
30029
{{- end -}}

{{- define "shorthaul.agent" -}}
{{- $host := eq .Values.network "host" -}}
{{- $paths := include "shorthaul.paths" . | fromYaml -}}
{{- /* The agent's sockets for IPv6 take IPv6 only. */ -}}
{{- $local := and .Values.metrics.enabled (contains ":" .Values.metrics.address) | ternary "\"::1\"" "127.0.0.1" -}}
{{ include "shorthaul.container" . }}
args: {{ concat (list "agent" "--log-format" .Values.agent.logFormat) .Values.agent.extraArgs | toJson }}
env: {{- include "shorthaul.agentEnv" . | nindent 2 }}
{{- if not $host }}
ports:
  - {name: hostport, containerPort: {{ include "shorthaul.podHostport" . }}, hostPort: {{ .Values.ports.hostport }}, hostIP: 127.0.0.1}
{{- end }}
# Only this pod's own agent may answer: until it has the ports, the one that it replaces would answer the other probes.
startupProbe:
  exec: {command: [shorthaul, ready, --socket, /run/shorthaul-pod/health.sock]}
  periodSeconds: 1
  timeoutSeconds: 5
  failureThreshold: 300
readinessProbe:
  httpGet: {path: /readyz, port: {{ .Values.ports.admin }}{{ if $host }}, host: {{ $local }}{{ end }}}
  periodSeconds: 2
  timeoutSeconds: 5
  failureThreshold: 2
livenessProbe:
  httpGet: {path: /livez, port: {{ .Values.ports.admin }}{{ if $host }}, host: {{ $local }}{{ end }}}
  periodSeconds: 10
  timeoutSeconds: 5
  failureThreshold: 3
lifecycle:
  preStop:
    exec: {command: [sleep, {{ .Values.preStopSeconds | quote }}]}
resources: {{- toYaml .Values.agent.resources | nindent 2 }}
securityContext: {{- include "shorthaul.security" (list "DAC_READ_SEARCH") | nindent 2 }}
volumeMounts:
  - {name: config, mountPath: /etc/shorthaul, readOnly: true}
  - {name: node, mountPath: /run/shorthaul}
  - {name: pod, mountPath: /run/shorthaul-pod}
  - {name: tmp, mountPath: /tmp}
  - {name: containerd-run, mountPath: {{ dir $paths.socket | quote }}, readOnly: true}
  # Names who has a port that the agent needs.
  - {name: cgroup, mountPath: /sys/fs/cgroup, readOnly: true}
  - {name: content, mountPath: {{ printf "%s/io.containerd.content.v1.content" $paths.root | quote }}, readOnly: true}
  - {name: token, mountPath: /var/run/secrets/kubernetes.io/serviceaccount, readOnly: true}
  {{- if include "shorthaul.keyed" . }}
  {{- include "shorthaul.keyMount" . | nindent 2 }}
  {{- end }}
  {{- if include "shorthaul.tls" . }}
  - {name: tls, mountPath: {{ include "shorthaul.tlsDirectory" . }}, readOnly: true}
  {{- end }}
  {{- if include "shorthaul.indexFiles" . }}
  - {name: index, mountPath: {{ include "shorthaul.indexDirectory" . }}, readOnly: true}
  {{- end }}
  {{- if not .Values.membership.nodeLabels }}
  - {name: labels, mountPath: /etc/podinfo, readOnly: true}
  {{- end }}
  {{- with .Values.stateDirectory }}
  - {name: state, mountPath: {{ . | quote }}}
  {{- end }}
  {{- include "shorthaul.configMounts" (dict "paths" $paths "writable" false "whole" false) | nindent 2 }}
  {{- with .Values.extraVolumeMounts }}{{ toYaml . | nindent 2 }}{{ end }}
{{- end -}}

{{- define "shorthaul.probe" -}}
{{- $paths := include "shorthaul.paths" . | fromYaml -}}
{{- $apart := eq .Values.network "hostPort" -}}
{{ include "shorthaul.container" . }}
# It tries again by itself: a container that ends makes the pod unready, and its agent would be left out by all others.
args: {{ list "probe" "--retry" "30" "--log-format" .Values.agent.logFormat | toJson }}
env: {{- include ($apart | ternary "shorthaul.probeEnv" "shorthaul.agentEnv") . | nindent 2 }}
resources: {{- toYaml .Values.probe.resources | nindent 2 }}
securityContext: {{- include "shorthaul.security" (list "BPF" "NET_ADMIN") | nindent 2 }}
volumeMounts:
  - {name: config, mountPath: /etc/shorthaul, readOnly: true}
  {{- if $apart }}
  - {name: node, mountPath: /run/shorthaul}
  {{- else }}
  - {name: pod, mountPath: /run/shorthaul-pod}
  {{- end }}
  - {name: tmp, mountPath: /tmp}
  - {name: cgroup, mountPath: /sys/fs/cgroup, readOnly: true}
  {{- include "shorthaul.configMounts" (dict "paths" $paths "writable" false "whole" false) | nindent 2 }}
{{- end -}}

{{/* What the pods of both DaemonSets have in common. */}}
{{- define "shorthaul.scheduling" -}}
# The node's own view of names, if nothing needs the cluster's: the agents reach the API server by its address.
dnsPolicy: {{ include "shorthaul.dnsPolicy" . }}
automountServiceAccountToken: false
{{- with .Values.priorityClassName }}
priorityClassName: {{ . | quote }}
{{- end }}
terminationGracePeriodSeconds: {{ .Values.terminationGracePeriodSeconds }}
nodeSelector: {{- merge (dict "kubernetes.io/os" "linux") .Values.nodeSelector | toYaml | nindent 2 }}
{{- with .Values.tolerations }}
tolerations: {{- toYaml . | nindent 2 }}
{{- end }}
affinity:
  {{- with .Values.affinity }}
  {{- toYaml . | nindent 2 }}
  {{- else }}
  # Virtual nodes have no containerd. A pod that never gets ready there would hold up every upgrade.
  nodeAffinity:
    requiredDuringSchedulingIgnoredDuringExecution:
      nodeSelectorTerms:
        - matchExpressions:
            - {key: eks.amazonaws.com/compute-type, operator: NotIn, values: [fargate]}
            - {key: type, operator: NotIn, values: [virtual-kubelet]}
  {{- end }}
{{- with .Values.imagePullSecrets }}
imagePullSecrets: {{- toYaml . | nindent 2 }}
{{- end }}
securityContext:
  {{- $own := dict "runAsUser" 0 "runAsGroup" 0 "seccompProfile" (dict "type" "RuntimeDefault") }}
  {{- mergeOverwrite $own .Values.podSecurityContext | toYaml | nindent 2 }}
{{- end -}}

{{- define "shorthaul.podAnnotations" -}}
checksum/config: {{ include "shorthaul.config" . | sha256sum }}
{{- with .Values.podAnnotations }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* The volumes of both DaemonSets' pods. */}}
{{- define "shorthaul.volumes" -}}
{{- $paths := include "shorthaul.paths" . | fromYaml -}}
- name: config
  configMap: {name: {{ include "shorthaul.fullname" . }}}
- name: tmp
  emptyDir: {sizeLimit: 64Mi}
- name: cgroup
  hostPath: {path: /sys/fs/cgroup, type: Directory}
- name: containerd-config
  hostPath: {path: {{ $paths.configDirectory | quote }}, type: DirectoryOrCreate}
- name: containerd-certs
  hostPath: {path: {{ $paths.certsDirectory | quote }}, type: DirectoryOrCreate}
# Shared by the old and the new pod of a node: the hand-over of sockets, and the lock on hosts.toml.
- name: node
  hostPath: {path: /run/shorthaul, type: DirectoryOrCreate}
{{- end -}}

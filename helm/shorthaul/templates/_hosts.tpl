{{/* The containers that write containerd's hosts.toml and take it out again. */}}

{{- define "shorthaul.whichNode" -}}
{{- $paths := include "shorthaul.paths" . | fromYaml -}}
--root /host --flavour {{ include "shorthaul.flavour" . }} --certs-d {{ $paths.certsDirectory }}
{{- if .Values.containerd.configDirectory }} --containerd-config {{ $paths.configDirectory }}/{{ $paths.configFile }}{{ end }}
{{- end -}}

{{- define "shorthaul.configureArguments" -}}
{{- include "shorthaul.whichNode" . }}
{{- range .Values.configure.registries }} --registry {{ squote . }}{{ end }}
{{- $endpoints := include "shorthaul.endpoints" . | fromJsonArray }} --endpoints {{ join "," $endpoints }}
{{- if has "hostport" $endpoints }} --hostport 127.0.0.1:{{ .Values.ports.hostport }}{{ end }}
{{- if has "nodeport" $endpoints }} --nodeport "$HOST_IP:{{ .Values.nodePort.port }}"{{ end }}
{{- if has "clusterip" $endpoints }} --clusterip "${{ include "shorthaul.localServiceVariable" . }}:{{ .Values.nodePort.port }}"{{ end }} --capabilities {{ join "," .Values.configure.capabilities }} --dial-timeout {{ .Values.configure.dialTimeout | default "0" }}
{{- if .Values.configure.dropIn }} --drop-in{{ end }}
{{- end -}}

{{/* Where Kubernetes says the Service's address. Services come before the pods that use them. */}}
{{- define "shorthaul.localServiceVariable" -}}
{{ printf "%s-local" (include "shorthaul.fullname" .) | upper | replace "-" "_" }}_SERVICE_HOST
{{- end -}}

{{/*
The pod's word on hosts.toml: the file is there while this container runs. Old and new pods of a node may overlap, so
each holds a shared lock; who leaves last takes the file out. A pod that leaves while another stays has that one write
the file again, because the two may not agree (a roll-back). What other tools change is merged again, at most once a
minute. No $( ) here: the kubelet would look at it.
*/}}
{{- define "shorthaul.hostsScript" -}}
shared=/run/shorthaul
mine=/run/shorthaul-pod
sleeper=

configure() {
    : >"$mine/hosts.checked" # before it reads: what changes meanwhile is newer, also by its own hand, which it then finds good
    shorthaul configure {{ include "shorthaul.configureArguments" . }}
}

write() {
    : >"$mine/hosts.writing"
    configure || leave 1
    mv "$mine/hosts.writing" "$mine/hosts.written"
}

leave() { # with this exit status
    trap '' TERM INT
    [ -z "$sleeper" ] || kill "$sleeper" 2>/dev/null || true
    flock --unlock 9 || true
    if flock --exclusive --nonblock 9; then
        shorthaul unconfigure {{ include "shorthaul.whichNode" . }}
    else
        echo "another pod of this node stays, and so does hosts.toml"
        : >"$shared/hosts.again"
    fi
    exit "$1"
}

changed() { # whether anybody was at it since
    find /host{{ (include "shorthaul.paths" . | fromYaml).certsDirectory }} -newer "$mine/hosts.checked" | grep -q .
}

pause() { # for so many seconds
    sleep "$1" &
    sleeper=$!
    wait "$sleeper" || true
}

trap 'leave 0' TERM INT
rm -f "$mine/hosts.written"
exec 9>"$shared/hosts.lock"
flock --shared 9
write
while :; do
    pause 10
    if [ "$shared/hosts.again" -nt "$mine/hosts.written" ]; then
        write
    elif changed; then
        configure || true
        pause 60
    fi
done
{{- end -}}

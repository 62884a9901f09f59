{{/* The containers that write containerd's hosts.toml and take it out again. */}}

{{- define "shorthaul.whichNode" -}}
{{- $paths := include "shorthaul.paths" . | fromYaml -}}
--root /host --flavour {{ include "shorthaul.flavour" . }} --certs-d {{ $paths.certsDirectory }}
{{- if .Values.containerd.configDirectory }} --containerd-config {{ $paths.configDirectory }}/{{ $paths.configFile }}{{ end }}
{{- end -}}

{{/*
The registries of which all images are decided by the registry: containerd asks them for tags itself, and then says of a
pod without credentials what they say, and not that there is no such image. As far as this can be told from the patterns.
*/}}
{{- define "shorthaul.deciding" -}}
{{- $found := list -}}
{{- $before := true -}}
{{- range (get (.Values.config.registries | default dict) "authorize" | default list) -}}
{{- $match := get . "match" | default "" | trimSuffix "/*" | lower -}}
{{- if ne (get . "by") "registry" }}{{ $before = false }}{{ end -}}
{{- if and $before (regexMatch "^[a-z0-9-]+([.][a-z0-9-]+)*(:[0-9]+)?$" $match) (or (contains "." $match) (contains ":" $match)) -}}
{{- $found = append $found $match -}}
{{- end -}}
{{- end -}}
{{- $found | uniq | toJson -}}
{{- end -}}

{{- define "shorthaul.configureArguments" -}}
{{- include "shorthaul.whichNode" . }}
{{- range .Values.configure.registries }} --registry {{ squote . }}{{ end }}
{{- range (include "shorthaul.deciding" . | fromJsonArray) }} --no-tags {{ squote . }}{{ end }}
{{- $endpoints := include "shorthaul.endpoints" . | fromJsonArray }} --endpoints {{ join "," $endpoints }}
{{- if has "hostport" $endpoints }} --hostport 127.0.0.1:{{ .Values.ports.hostport }}{{ end }}
{{- if has "nodeport" $endpoints }} --nodeport "$HOST_IP:{{ .Values.nodePort.port }}"{{ end }}
{{- if has "clusterip" $endpoints }} --clusterip "${{ include "shorthaul.localServiceVariable" . }}:{{ .Values.nodePort.port }}"{{ end }} --capabilities {{ join "," .Values.configure.capabilities }} --dial-timeout {{ .Values.configure.dialTimeout | default "0" }}
{{- if include "shorthaul.hostsKeyed" . }} --key-file {{ include "shorthaul.keyFile" . }}{{ end }}
{{- if eq .Values.network "hostPort" }} --pod-network{{ end }}
{{- if .Values.configure.dropIn }} --drop-in{{ end }}
{{- end -}}

{{/* Where Kubernetes says the Service's address. Services come before the pods that use them. */}}
{{- define "shorthaul.localServiceVariable" -}}
{{ printf "%s-local" (include "shorthaul.fullname" .) | upper | replace "-" "_" }}_SERVICE_HOST
{{- end -}}

{{/*
The pod's word on hosts.toml: the file is there while this container runs. Old and new pods of a node may overlap, so
each holds a shared lock; who leaves last takes the file out. A pod that leaves while another stays has that one write
the file again, because the two may not agree (a roll-back). What other tools change is merged again, and a key that
changed brings another token, at most once a minute; a key that is no use leaves the file as it is. No $( ) here: the
kubelet would look at it.
*/}}
{{- define "shorthaul.hostsScript" -}}
shared=/run/shorthaul
mine=/run/shorthaul-pod
sleeper=
{{- $keyed := include "shorthaul.hostsKeyed" . }}
{{- if $keyed }}
key_tried=
key_now=
{{- end }}

configure() {
    : >"$mine/hosts.checked" # before it reads: what changes meanwhile is newer, also by its own hand, which it then finds good
    {{- if $keyed }}
    look_at_key
    key_tried=$key_now
    {{- end }}
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
    # By the time of the last change of any kind: a mode that lets others read the token is one, too.
    find /host{{ (include "shorthaul.paths" . | fromYaml).certsDirectory }} -cnewer "$mine/hosts.checked" | grep -q .
}
{{- if $keyed }}

look_at_key() { # the kubelet replaces the file; its times alone would trust the clock
    stat --dereference --format "%i %s %Y %Z" {{ include "shorthaul.keyFile" . }} >"$mine/key.now" 2>/dev/null || true
    read -r key_now <"$mine/key.now" || key_now=
}

key_changed() {
    look_at_key
    [ "$key_now" != "$key_tried" ]
}
{{- end }}

rest() { # for a minute{{ if $keyed }}, unless the key changes{{ end }}
    for _ in 1 2 3 4 5 6; do
        pause 10
        {{- if $keyed }}
        if key_changed; then return; fi
        {{- end }}
    done
}

pause() { # for so many seconds
    sleep "$1" &
    sleeper=$!
    wait "$sleeper" || true
}

trap 'leave 0' TERM INT
failed=
rm -f "$mine/hosts.written"
exec 9>"$shared/hosts.lock"
flock --shared 9
write
while :; do
    pause 10
    if [ "$shared/hosts.again" -nt "$mine/hosts.written" ]; then
        write
    elif changed{{ if $keyed }} || key_changed{{ end }} || [ "$failed" ]; then
        if configure; then failed=; else failed=yes; fi
        rest
    fi
done
{{- end -}}

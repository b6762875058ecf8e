{{/* Objects are written once, for kustomize: files/ are links to its files. Here is what values change of them. */}}

{{/* (dict "root" $ "file" NAME): the file, with the namespace of this release. */}}
{{- define "vedette.file" -}}
{{- $text := .root.Files.Get (printf "files/%s.yaml" .file) | required (printf "%s.yaml is not in the chart" .file) -}}
{{- $text | replace "vedette-system" .root.Values.namespace -}}
{{- end -}}

{{- define "vedette.image" -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end -}}

{{/* (dict "root" $ "pod" SPEC): the pod spec SPEC with the image and how it is pulled. */}}
{{- define "vedette.pull" -}}
{{- $image := .root.Values.image -}}
{{- $container := first .pod.containers -}}
{{- $_ := set $container "image" (include "vedette.image" .root) -}}
{{- with $image.pullPolicy }}{{ $_ := set $container "imagePullPolicy" . }}{{ end -}}
{{- with $image.pullSecrets }}{{ $_ := set $.pod "imagePullSecrets" . }}{{ end -}}
{{- end -}}

{{/* agent.yaml. */}}
{{- define "vedette.config" -}}
{{- $act := dict "mode" (eq .Values.mode "evacuate" | ternary "enforce" .Values.mode) -}}
{{- with .Values.budget.maxTaintedShare }}{{ $_ := set $act "max_tainted_share" . }}{{ end -}}
{{- with .Values.budget.poolLabel }}{{ $_ := set $act "pool_label" . }}{{ end -}}
{{- mergeOverwrite (deepCopy .Values.config) (dict "act" $act) | toYaml -}}
{{- end -}}

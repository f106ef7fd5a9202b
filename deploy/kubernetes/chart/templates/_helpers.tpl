{{- define "ranker.name" -}}
{{- if contains .Chart.Name .Release.Name }}{{ .Release.Name | trunc 52 | trimSuffix "-" }}
{{- else }}{{ printf "%s-%s" .Release.Name .Chart.Name | trunc 52 | trimSuffix "-" }}{{ end }}
{{- end }}

{{- define "ranker.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{/* Call with (list . "component"). */}}
{{- define "ranker.labels" -}}
{{- $top := index . 0 -}}
{{ include "ranker.selector" $top }}
app.kubernetes.io/component: {{ index . 1 }}
app.kubernetes.io/version: {{ $top.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ $top.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" $top.Chart.Name $top.Chart.Version }}
{{- end }}

{{/* Call with (list . image). */}}
{{- define "ranker.image" -}}
{{- $image := index . 1 -}}
{{- if $image.digest }}{{ $image.repository }}@{{ $image.digest }}
{{- else }}{{ $image.repository }}:{{ $image.tag | default (index . 0).Chart.AppVersion }}{{ end }}
{{- end }}

{{- define "ranker.account" -}}
{{ .Values.serviceAccount.name | default (ternary (include "ranker.name" .) "default" .Values.serviceAccount.create) }}
{{- end }}

{{- define "ranker.secret" -}}
{{ .Values.secret.existing | default (include "ranker.name" .) }}
{{- end }}

{{- define "ranker.bundlesClaim" -}}
{{ .Values.bundles.claim.existing | default (printf "%s-bundles" (include "ranker.name" .)) }}
{{- end }}

{{/* Seconds that a setting's milliseconds take, rounded up. Call with (list . "RANKER_..."). */}}
{{- define "ranker.seconds" -}}
{{- $text := required (printf "settings.%s is needed" (index . 1)) (get (index . 0).Values.settings (index . 1)) -}}
{{ div (add (int64 $text) 999) 1000 }}
{{- end }}

{{- define "ranker.grace" -}}
{{- $sum := int64 .Values.graceSeconds -}}
{{- range list "RANKER_HTTP__DRAIN_DELAY_MS" "RANKER_HTTP__DRAIN_TIMEOUT_MS" "RANKER_STREAMS__CLOSE_TIMEOUT_MS" -}}
{{- $sum = add $sum (int64 (include "ranker.seconds" (list $ .))) -}}
{{- end -}}
{{- /* Off unless it is set. */ -}}
{{- with get .Values.settings "RANKER_HTTP__DRAIN_WHILE_ASKED_MS" -}}
{{- $sum = add $sum (div (add (int64 .) 999) 1000) -}}
{{- end -}}
{{ $sum }}
{{- end }}

{{/* The user of the images, and nothing that a ranking does not need. */}}
{{- define "ranker.podSecurity" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
fsGroup: 65532
fsGroupChangePolicy: OnRootMismatch
seccompProfile: {type: RuntimeDefault}
{{- end }}

{{- define "ranker.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end }}

{{- define "tidemark.labels" -}}
app.kubernetes.io/name: tidemark
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end }}

{{- /* The container of a service, up to its own environment: component, root and http (a port). */}}
{{- define "tidemark.container" -}}
name: {{ .component }}
image: "{{ .root.Values.image.repository }}:{{ .root.Values.image.tag | default .root.Chart.AppVersion }}"
imagePullPolicy: {{ .root.Values.image.pullPolicy }}
command: [tidemark-{{ .component }}]
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities: {drop: [ALL]}
livenessProbe:
  httpGet: {path: /livez, port: http}
readinessProbe:
  httpGet: {path: /readyz, port: http}
  periodSeconds: 2
{{- with (index .root.Values .component).resources }}
resources: {{ toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{- define "tidemark.env" -}}
- {name: TIDEMARK_HTTP, value: "0.0.0.0:{{ .http }}"}
- {name: TIDEMARK_TELEMETRY__LOG, value: {{ .root.Values.telemetry.log | quote }}}
- {name: TIDEMARK_TELEMETRY__LOG_FORMAT, value: {{ .root.Values.telemetry.logFormat | quote }}}
- {name: TIDEMARK_TELEMETRY__OTLP_ENDPOINT, value: {{ .root.Values.telemetry.otlpEndpoint | quote }}}
{{- if ne .component "coordinator" }}
- {name: TIDEMARK_COORDINATORS, value: "http://{{ .root.Release.Name }}-coordinator:9401"}
{{- end }}
{{- end }}

{{- define "tidemark.objectStoreEnv" -}}
- {name: TIDEMARK_OBJECT_STORE, value: {{ required "objectStore.url is needed" .Values.objectStore.url | quote }}}
{{- range $name, $value := .Values.objectStore.env }}
- {name: {{ $name }}, value: {{ $value | quote }}}
{{- end }}
{{- end }}

{{- define "tidemark.objectStoreSecret" -}}
{{- with .Values.objectStore.secretName }}
envFrom:
  - secretRef: {name: {{ . }}}
{{- end }}
{{- end }}

{{- /* What all pods have: Kubernetes' own variables for services would look like configuration, and are left out. */}}
{{- define "tidemark.pod" -}}
enableServiceLinks: false
terminationGracePeriodSeconds: 30
{{- with .root.Values.serviceAccountName }}
serviceAccountName: {{ . }}
{{- end }}
securityContext: {runAsNonRoot: true, runAsUser: 10001, runAsGroup: 10001, fsGroup: 10001}
topologySpreadConstraints:
  - maxSkew: 1
    topologyKey: topology.kubernetes.io/zone
    whenUnsatisfiable: ScheduleAnyway
    labelSelector:
      matchLabels: {{ include "tidemark.labels" . | nindent 8 }}
{{- end }}

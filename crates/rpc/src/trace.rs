//! The trace context's way over a hop, as W3C's `traceparent`: in the headers of a unary call, and with each request
//! of an ordered stream.

use opentelemetry::global::get_text_map_propagator;
use opentelemetry::propagation::{Extractor, Injector};
use opentelemetry::trace::TraceContextExt as _;
use tonic::metadata::AsciiMetadataValue;
use tonic::{Request, Status};
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt as _;

const TRACEPARENT: &str = "traceparent";

/// The context of the caller's span, or nothing when that is not traced.
pub(crate) fn traceparent() -> String {
    let mut out = Traceparent(String::new());
    let span = Span::current();
    if !span.is_none() {
        let context = span.context();
        if context.span().span_context().is_valid() {
            get_text_map_propagator(|propagator| propagator.inject_context(&context, &mut out));
        }
    }
    out.0
}

/// Makes `span` a part of the caller's trace. Does nothing for a caller that is not traced.
pub(crate) fn follow(span: &Span, traceparent: &str) {
    if traceparent.is_empty() || span.is_disabled() {
        return;
    }
    let context = get_text_map_propagator(|propagator| propagator.extract(&Traceparent(traceparent.to_owned())));
    if let Err(error) = span.set_parent(context) {
        tracing::debug!(%error, "a span does not follow its caller's");
    }
}

/// Sends the context along with every unary call of a client.
pub(crate) fn inject(mut request: Request<()>) -> Result<Request<()>, Status> {
    let value = traceparent();
    if !value.is_empty()
        && let Ok(value) = AsciiMetadataValue::try_from(value)
    {
        request.metadata_mut().insert(TRACEPARENT, value);
    }
    Ok(request)
}

/// The span of every call that a server answers.
pub(crate) fn serving(request: &http::Request<()>) -> Span {
    let span = tracing::debug_span!("serve", method = request.uri().path());
    if let Some(value) = request.headers().get(TRACEPARENT).and_then(|value| value.to_str().ok()) {
        follow(&span, value);
    }
    span
}

/// One header.
struct Traceparent(String);

impl Injector for Traceparent {
    fn set(&mut self, key: &str, value: String) {
        if key == TRACEPARENT {
            self.0 = value;
        }
    }
}

impl Extractor for Traceparent {
    fn get(&self, key: &str) -> Option<&str> {
        (key == TRACEPARENT).then_some(&self.0)
    }

    fn keys(&self) -> Vec<&str> {
        vec![TRACEPARENT]
    }
}

//! Cuts a request into smaller ones with the same content, so that each fits where there is a limit.

use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::metrics::v1::Metric;
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use prost::{DecodeError, Message};

use crate::ship::line::Signal;

/// Distributes the items of a request over requests of about `$most` bytes each, in order.
macro_rules! cut {
    ($bytes:ident, $most:ident, $request:ident, $resources:ident, $scopes:ident, $items:ident, $split:expr) => {{
        let (mut requests, mut current, mut size) = (Vec::new(), $request::default(), 0);
        for mut resource in $request::decode($bytes)?.$resources {
            for mut scope in std::mem::take(&mut resource.$scopes) {
                let items = std::mem::take(&mut scope.$items);
                let mut begun = false;
                for item in items.into_iter().flat_map(|item| $split(item, $most)) {
                    let length = item.encoded_len();
                    if size > 0 && size + length > $most {
                        requests.push(std::mem::take(&mut current).encode_to_vec());
                        (size, begun) = (0, false);
                    }
                    if !begun {
                        let mut outer = resource.clone();
                        outer.$scopes.push(scope.clone());
                        current.$resources.push(outer);
                        begun = true;
                    }
                    size += length;
                    if let Some(scope) =
                        current.$resources.last_mut().and_then(|outer| outer.$scopes.last_mut())
                    {
                        scope.$items.push(item);
                    }
                }
            }
        }
        requests.push(current.encode_to_vec());
        Ok(requests)
    }};
}

/// Cuts a request into several of about `most` bytes, more only for a single log record, span or point.
///
/// # Errors
/// If the bytes are not a request of this signal.
pub fn cut(signal: Signal, bytes: &[u8], most: usize) -> Result<Vec<Vec<u8>>, DecodeError> {
    match signal {
        Signal::Metrics => cut!(
            bytes,
            most,
            ExportMetricsServiceRequest,
            resource_metrics,
            scope_metrics,
            metrics,
            split_metric
        ),
        Signal::Logs => {
            cut!(bytes, most, ExportLogsServiceRequest, resource_logs, scope_logs, log_records, one)
        }
        Signal::Traces => {
            cut!(bytes, most, ExportTraceServiceRequest, resource_spans, scope_spans, spans, one)
        }
    }
}

fn one<T>(item: T, _: usize) -> [T; 1] {
    [item]
}

/// Splits the points of a metric into metrics of about `most` bytes.
fn split_metric(mut metric: Metric, most: usize) -> Vec<Metric> {
    if metric.encoded_len() <= most {
        return vec![metric];
    }
    macro_rules! shares {
        ($data:ident, $variant:ident) => {{
            let points = std::mem::take(&mut $data.data_points);
            let shares = share(points, most).into_iter().map(|data_points| {
                let mut part = $data.clone();
                part.data_points = data_points;
                Metric { data: Some(Data::$variant(part)), ..metric.clone() }
            });
            shares.collect()
        }};
    }
    match metric.data.take() {
        None => vec![metric],
        Some(Data::Gauge(mut data)) => shares!(data, Gauge),
        Some(Data::Sum(mut data)) => shares!(data, Sum),
        Some(Data::Histogram(mut data)) => shares!(data, Histogram),
        Some(Data::ExponentialHistogram(mut data)) => shares!(data, ExponentialHistogram),
        Some(Data::Summary(mut data)) => shares!(data, Summary),
    }
}

/// Groups consecutive messages into groups of about `most` bytes.
fn share<T: Message>(messages: Vec<T>, most: usize) -> Vec<Vec<T>> {
    let (mut groups, mut size) = (vec![Vec::new()], 0);
    for message in messages {
        let length = message.encoded_len();
        if size > 0 && size + length > most {
            groups.push(Vec::new());
            size = 0;
        }
        size += length;
        if let Some(group) = groups.last_mut() {
            group.push(message);
        }
    }
    groups
}

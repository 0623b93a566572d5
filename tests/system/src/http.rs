//! What a node tells over HTTP: health and metrics. A handful of lines instead of a client.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use crate::wait;

/// An answer's status and body; `None` where nobody answers.
pub fn get(address: SocketAddr, path: &str) -> Option<(u16, String)> {
    let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    ask(address, &request)
}

/// As [`get`], with JSON that is sent.
pub fn post(address: SocketAddr, path: &str, json: &str) -> Option<(u16, String)> {
    let length = json.len();
    ask(
        address,
        &format!(
            "POST {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\
             Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n{json}"
        ),
    )
}

fn ask(address: SocketAddr, request: &str) -> Option<(u16, String)> {
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(2)).ok()?;
    // Who is there and stands still for a while answers late: `None` is for who is not there.
    stream.set_read_timeout(Some(wait::SOON)).ok()?;
    stream.write_all(request.as_bytes()).ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    let status = answer.split(' ').nth(1)?.parse().ok()?;
    let (_, body) = answer.split_once("\r\n\r\n")?;
    Some((status, body.to_owned()))
}

/// A sample of `/metrics`, named with its labels as it is printed there.
pub fn metric(address: SocketAddr, sample: &str) -> Option<f64> {
    let (_, body) = get(address, "/metrics")?;
    find(&body, sample)
}

/// The sum of all samples of one metric, whatever their labels.
pub fn metric_sum(address: SocketAddr, name: &str) -> Option<f64> {
    let (_, body) = get(address, "/metrics")?;
    let samples = body.lines().filter(|line| {
        line.strip_prefix(name)
            .is_some_and(|rest| rest.starts_with(['{', ' ']))
    });
    Some(
        samples
            .filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok())
            .sum(),
    )
}

fn find(body: &str, sample: &str) -> Option<f64> {
    let mut values = body
        .lines()
        .filter_map(|line| line.strip_prefix(sample)?.strip_prefix(' '));
    values.next()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_is_found_by_its_whole_name() {
        let body = "# HELP a b\na_total 1\na_total_more 2\nb{stream=\"telemetry\"} 3\n";
        assert_eq!(find(body, "a_total"), Some(1.0));
        assert_eq!(find(body, "b{stream=\"telemetry\"}"), Some(3.0));
        assert_eq!(find(body, "b"), None);
    }
}

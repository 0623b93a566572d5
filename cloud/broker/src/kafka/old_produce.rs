//! Produce in its versions 0 to 2, which Kafka 4 serves no more, either: they are advertised since librdkafka takes a broker
//! without them for one without compression (KAFKA-18659), and each partition is refused. The codec does not know them.
//! Source: `ProduceRequest.json` and `ProduceResponse.json` of Kafka 3.9.

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::reply_code::UNSUPPORTED_VERSION;

/// The versions that are answered here.
pub(super) const VERSIONS: std::ops::Range<i16> = 0..3;

/// Where there is no offset, or no time.
const NONE: i64 = -1;

/// What a producer is told.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Told {
    /// The whole response, length included.
    Response(BytesMut),
    /// It waits for none (`acks=0`).
    Refused,
}

/// The answer to a request, which begins with its header; `None` where it is none.
pub(super) fn answer(version: i16, request: Bytes) -> Option<Told> {
    let mut request = Reader(request);
    request.take(4)?;
    let correlation_id = request.i32()?;
    let client_id = usize::try_from(request.i16()?).unwrap_or(0);
    request.take(client_id)?;
    let acks = request.i16()?;
    let _timeout_ms = request.i32()?;
    let mut out = BytesMut::new();
    out.put_i32(0);
    out.put_i32(correlation_id);
    let topics = request.i32()?;
    out.put_i32(topics);
    for _ in 0..topics {
        let length = request.i16()?;
        let name = request.take(usize::try_from(length).ok()?)?;
        out.put_i16(length);
        out.put_slice(&name);
        let partitions = request.i32()?;
        out.put_i32(partitions);
        for _ in 0..partitions {
            let index = request.i32()?;
            let records = usize::try_from(request.i32()?).unwrap_or(0);
            request.take(records)?;
            out.put_i32(index);
            out.put_i16(UNSUPPORTED_VERSION);
            out.put_i64(NONE);
            if version >= 2 {
                out.put_i64(NONE);
            }
        }
    }
    if version >= 1 {
        let throttle_ms = 0;
        out.put_i32(throttle_ms);
    }
    let length = i32::try_from(out.len() - 4).ok()?;
    out[..4].copy_from_slice(&length.to_be_bytes());
    Some(match acks {
        0 => Told::Refused,
        _ => Told::Response(out),
    })
}

/// Takes fields off a request; `None` where it ends before. What is claimed is not believed: only what is there is read.
struct Reader(Bytes);

impl Reader {
    fn take(&mut self, length: usize) -> Option<Bytes> {
        (length <= self.0.len()).then(|| self.0.split_to(length))
    }

    fn i16(&mut self) -> Option<i16> {
        self.0.try_get_i16().ok()
    }

    fn i32(&mut self) -> Option<i32> {
        self.0.try_get_i32().ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One partition of topic `t`.
    fn request(acks: i16) -> BytesMut {
        let mut out = BytesMut::new();
        out.put_slice(&[0, 0, 0, 2]);
        out.put_i32(9);
        out.put_slice(&[0, 2, b'm', b'e']);
        out.put_i16(acks);
        out.put_i32(1000);
        out.put_i32(1);
        out.put_slice(&[0, 1, b't']);
        out.put_i32(1);
        out.put_i32(3);
        out.put_i32(4);
        out.put_slice(b"data");
        out
    }

    #[test]
    fn each_partition_is_refused_in_the_requests_version() {
        for (version, bytes) in [(0, 29), (1, 33), (2, 41)] {
            let Some(Told::Response(response)) = answer(version, request(1).freeze()) else {
                panic!("no answer");
            };
            assert_eq!(response.len(), 4 + bytes, "version {version}");
            assert_eq!(response[..4], (bytes as i32).to_be_bytes());
            assert_eq!(response[8..12], 1_i32.to_be_bytes(), "topics");
            let partition = [&3_i32.to_be_bytes()[..], &UNSUPPORTED_VERSION.to_be_bytes()];
            assert_eq!(response[19..25], partition.concat());
        }
        assert_eq!(answer(2, request(0).freeze()), Some(Told::Refused));
    }

    #[test]
    fn what_is_cut_or_claims_too_much_is_no_request() {
        let whole = request(1).freeze();
        for length in 0..whole.len() {
            assert_eq!(answer(0, whole.slice(..length)), None, "{length}");
        }
        let mut claims = request(1);
        claims[18..22].copy_from_slice(&i32::MAX.to_be_bytes());
        assert_eq!(answer(0, claims.freeze()), None);
    }
}

//! Rates per minute over the last one, five and fifteen minutes, as moving averages that forget
//! exponentially: what mosquitto publishes under `load`.

use std::collections::HashMap;
use std::time::Instant;

use super::figures::Total;

const WINDOWS: [(&str, f64); 3] = [("1min", 60.0), ("5min", 300.0), ("15min", 900.0)];

#[derive(Debug, Default)]
pub(super) struct Load {
    before: Option<Instant>,
    rates: HashMap<&'static str, Rate>,
}

#[derive(Debug, Default)]
struct Rate {
    total: u64,
    per_minute: [f64; WINDOWS.len()],
}

impl Load {
    /// What came since the last call goes into the averages.
    pub(super) fn rates(&mut self, now: Instant, totals: &[Total]) -> Vec<(String, String)> {
        let before = self.before.replace(now).unwrap_or(now);
        let seconds = (now - before).as_secs_f64();
        let mut figures = Vec::with_capacity(totals.len() * WINDOWS.len());
        for total in totals {
            let rate = self.rates.entry(total.load).or_default();
            let came = total.value.saturating_sub(rate.total) as f64;
            rate.total = total.value;
            for ((name, window), per_minute) in WINDOWS.iter().zip(&mut rate.per_minute) {
                if seconds > 0.0 {
                    let keep = (-seconds / window).exp();
                    *per_minute = *per_minute * keep + came / seconds * 60.0 * (1.0 - keep);
                }
                figures.push((
                    format!("load/{}/{name}", total.load),
                    format!("{per_minute:.2}"),
                ));
            }
        }
        figures
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_steady_rate_is_found_and_forgotten() {
        let (mut load, start) = (Load::default(), Instant::now());
        let mut rate_at = |second: u64, value| {
            let total = Total {
                topic: None,
                load: "x",
                value,
            };
            let rates = load.rates(start + Duration::from_secs(second), &[total]);
            rates
                .into_iter()
                .map(|(_, value)| value.parse::<f64>().unwrap())
                .collect::<Vec<_>>()
        };
        let mut rates = Vec::new();
        for second in 0..=900 {
            rates = rate_at(second, 2 * second);
        }
        assert!((119.0..=120.0).contains(&rates[0]), "{rates:?}");
        assert!(
            (74.0..=78.0).contains(&rates[2]),
            "1 - 1/e of it: {rates:?}"
        );
        let after = rate_at(1_500, 1_800);
        assert!(after[0] < 0.1 && after[2] > 30.0, "{after:?}");
    }
}

//! Durations as text.

use std::time::Duration;

/// Formats a duration with two units at most. The durations of indicatif are coarser: "3 minutes" for 200 seconds.
///
/// ```
/// use std::time::Duration;
/// use vitlab_dataset::duration::human_duration;
/// let text = |seconds| human_duration(Duration::from_secs_f64(seconds));
/// assert_eq!([0.43, 47.6, 200.0, 3900.0].map(text), ["0.4 s", "48 s", "3 min 20 s", "1 h 5 min"]);
/// ```
pub fn human_duration(duration: Duration) -> String {
    let seconds = duration.as_secs_f64();
    match seconds.round() as u64 {
        _ if seconds < 9.95 => format!("{seconds:.1} s"),
        seconds @ 0..120 => format!("{seconds} s"),
        seconds @ 120..3600 => format!("{} min {} s", seconds / 60, seconds % 60),
        seconds => format!("{} h {} min", seconds / 3600, seconds % 3600 / 60),
    }
}

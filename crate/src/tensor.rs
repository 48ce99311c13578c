//! Reductions of tensors with plain arguments, named as in ndarray and PyTorch.
//!
//! Where tch asks for a list of axes, a flag and a type, as in `x.sum_dim_intlist([-1i64].as_slice(), false, Kind::Float)`,
//! [`TensorExt`] has `x.sum_axis(-1)`. A negative axis counts from the end. Like tch's own operations, these panic on a wrong
//! argument; the message is a sentence.

use tch::{Kind, Tensor};

/// Plain reductions of a tensor.
pub trait TensorExt {
    /// Sum over one axis, which is dropped: `[…, n, …]` -> `[…, …]`. Integers and booleans give int64, floats keep their type.
    ///
    /// ```
    /// use vitlab::{tch::Tensor, tensor::TensorExt};
    /// let x = Tensor::from_slice2(&[[1.0, 2.0, 6.0], [4.0, 5.0, 6.0]]);
    /// assert_eq!(x.sum_axis(-1).to_vec(), [9.0, 15.0]);
    /// assert_eq!(x.sum_axis(0).to_vec(), [5.0, 7.0, 12.0]);
    /// ```
    ///
    /// # Panics
    /// Panics if the tensor has no such axis.
    fn sum_axis(&self, axis: i64) -> Tensor;

    /// Mean over one axis, which is dropped. Integers and booleans give float64, floats keep their type.
    ///
    /// ```
    /// use vitlab::{tch::Tensor, tensor::TensorExt};
    /// let x = Tensor::from_slice2(&[[1i64, 2, 6], [4, 5, 7]]);
    /// assert_eq!(x.mean_axis(0).to_vec(), [2.5, 3.5, 6.5]);
    /// ```
    ///
    /// # Panics
    /// Panics if the tensor has no such axis.
    fn mean_axis(&self, axis: i64) -> Tensor;

    /// Standard deviation over one axis, which is dropped; the divisor is n − 1, as in PyTorch. Integers and booleans give
    /// float64, floats keep their type.
    ///
    /// ```
    /// use vitlab::{tch::Tensor, tensor::TensorExt};
    /// // The mean is 3, the variance (4 + 1 + 9) / 2 = 7.
    /// let deviation = Tensor::from_slice2(&[[1.0, 2.0, 6.0]]).std_axis(1);
    /// assert!((deviation.item() - 7f64.sqrt()).abs() < 1e-12);
    /// ```
    ///
    /// # Panics
    /// Panics if the tensor has no such axis.
    fn std_axis(&self, axis: i64) -> Tensor;

    /// Largest value along one axis, which is dropped (`torch.amax`).
    ///
    /// ```
    /// use vitlab::{tch::Tensor, tensor::TensorExt};
    /// assert_eq!(Tensor::from_slice2(&[[1.0, 7.0], [4.0, 5.0]]).max_axis(0).to_vec(), [4.0, 7.0]);
    /// ```
    ///
    /// # Panics
    /// Panics if the tensor has no such axis, or if the axis is empty.
    fn max_axis(&self, axis: i64) -> Tensor;

    /// Smallest value along one axis, which is dropped (`torch.amin`).
    ///
    /// ```
    /// use vitlab::{tch::Tensor, tensor::TensorExt};
    /// assert_eq!(Tensor::from_slice2(&[[1.0, 7.0], [4.0, 5.0]]).min_axis(0).to_vec(), [1.0, 5.0]);
    /// ```
    ///
    /// # Panics
    /// Panics if the tensor has no such axis, or if the axis is empty.
    fn min_axis(&self, axis: i64) -> Tensor;

    /// Index of the largest value along one axis, which is dropped: int64.
    ///
    /// ```
    /// use vitlab::{tch::Tensor, tensor::TensorExt};
    /// assert_eq!(Tensor::from_slice2(&[[1.0, 7.0], [6.0, 5.0]]).argmax_axis(-1).to_vec(), [1.0, 0.0]);
    /// ```
    ///
    /// # Panics
    /// Panics if the tensor has no such axis, or if the axis is empty.
    fn argmax_axis(&self, axis: i64) -> Tensor;

    /// Sum of all values, in float64; of a mask, the number of true ones.
    ///
    /// ```
    /// use vitlab::{tch::Tensor, tensor::TensorExt};
    /// let x = Tensor::from_slice(&[1.0, -2.0, 6.0]);
    /// assert_eq!((x.sum_all(), x.gt(0.0).sum_all()), (5.0, 2.0));
    /// ```
    fn sum_all(&self) -> f64;

    /// Mean of all values, in float64; of a mask, the share of true ones.
    ///
    /// ```
    /// use vitlab::{tch::Tensor, tensor::TensorExt};
    /// let x = Tensor::from_slice(&[1.0, -2.0, 6.0, 5.0]);
    /// assert_eq!((x.mean_all(), x.gt(0.0).mean_all()), (2.5, 0.75));
    /// ```
    fn mean_all(&self) -> f64;

    /// The value of a tensor with one element.
    ///
    /// ```
    /// use vitlab::{tch::Tensor, tensor::TensorExt};
    /// let x = Tensor::from_slice(&[1.5, -2.0]);
    /// assert_eq!((x.get(0).item(), x.abs().max().item()), (1.5, 2.0));
    /// ```
    ///
    /// # Panics
    /// Panics if the tensor has more elements or none.
    fn item(&self) -> f64;

    /// All values in row-major order.
    ///
    /// ```
    /// use vitlab::{tch::Tensor, tensor::TensorExt};
    /// assert_eq!(Tensor::from_slice2(&[[1i64, 2], [3, 4]]).to_vec(), [1.0, 2.0, 3.0, 4.0]);
    /// ```
    fn to_vec(&self) -> Vec<f64>;

    /// Largest absolute difference of two tensors of the same shape; NaN if one of them has a NaN.
    ///
    /// ```
    /// use vitlab::{tch::Tensor, tensor::TensorExt};
    /// let (a, b) = (Tensor::from_slice(&[1.0, 2.0]), Tensor::from_slice(&[1.25, 0.0]));
    /// assert_eq!(a.largest_difference(&b), 2.0);
    /// ```
    ///
    /// # Panics
    /// Panics if the shapes differ, or if the tensors are empty.
    fn largest_difference(&self, other: &Tensor) -> f64;
}

impl TensorExt for Tensor {
    #[track_caller]
    fn sum_axis(&self, axis: i64) -> Tensor {
        self.sum_dim_intlist([known(self, "sum_axis", axis)].as_slice(), false, None::<Kind>)
    }

    #[track_caller]
    fn mean_axis(&self, axis: i64) -> Tensor {
        let axis = known(self, "mean_axis", axis);
        floating(self).mean_dim([axis].as_slice(), false, None::<Kind>)
    }

    #[track_caller]
    fn std_axis(&self, axis: i64) -> Tensor {
        let axis = known(self, "std_axis", axis);
        floating(self).std_dim([axis].as_slice(), true, false)
    }

    #[track_caller]
    fn max_axis(&self, axis: i64) -> Tensor {
        self.amax([filled(self, "max_axis", axis)].as_slice(), false)
    }

    #[track_caller]
    fn min_axis(&self, axis: i64) -> Tensor {
        self.amin([filled(self, "min_axis", axis)].as_slice(), false)
    }

    #[track_caller]
    fn argmax_axis(&self, axis: i64) -> Tensor {
        let axis = filled(self, "argmax_axis", axis);
        // libtorch has none of booleans.
        let numbers = if self.kind() == Kind::Bool { self.to_kind(Kind::Uint8) } else { self.shallow_clone() };
        numbers.argmax(axis, false)
    }

    fn sum_all(&self) -> f64 {
        self.sum(Kind::Double).double_value(&[])
    }

    fn mean_all(&self) -> f64 {
        self.to_kind(Kind::Double).mean(Kind::Double).double_value(&[])
    }

    #[track_caller]
    fn item(&self) -> f64 {
        let count = self.numel();
        let remedy = "choose one with get, or reduce them first, for instance by mean_all";
        assert!(count == 1, "item: the tensor {:?} has {count} values; {remedy}", self.size());
        self.reshape([1]).double_value(&[0])
    }

    fn to_vec(&self) -> Vec<f64> {
        Vec::try_from(self.to_kind(Kind::Double).reshape([-1])).expect("a vector of float64")
    }

    #[track_caller]
    fn largest_difference(&self, other: &Tensor) -> f64 {
        let (ours, theirs) = (self.size(), other.size());
        assert!(ours == theirs, "largest_difference: the tensors are {ours:?} and {theirs:?}; give two of one shape");
        assert!(self.numel() > 0, "largest_difference: the tensors {ours:?} have no values");
        (self.to_kind(Kind::Double) - other.to_kind(Kind::Double)).abs().max().double_value(&[])
    }
}

/// The axis, if the tensor has it.
#[track_caller]
fn known(tensor: &Tensor, name: &str, axis: i64) -> i64 {
    let (size, count) = (tensor.size(), tensor.dim() as i64);
    assert!(count > 0, "{name}: the tensor is a single number without axes; item gives its value");
    assert!(
        (-count..count).contains(&axis),
        "{name}: a tensor {size:?} has no axis {axis}; give 0 to {}, or −1 to −{count} from the end",
        count - 1
    );
    axis
}

/// The axis, if the tensor has it and has values along it.
#[track_caller]
fn filled(tensor: &Tensor, name: &str, axis: i64) -> i64 {
    let (size, axis) = (tensor.size(), known(tensor, name, axis));
    let length = size[axis.rem_euclid(size.len() as i64) as usize];
    assert!(length > 0, "{name}: the tensor {size:?} has no values along axis {axis}");
    axis
}

/// Integers and booleans as float64.
fn floating(tensor: &Tensor) -> Tensor {
    match tensor.kind() {
        Kind::Half | Kind::BFloat16 | Kind::Float | Kind::Double => tensor.shallow_clone(),
        _ => tensor.to_kind(Kind::Double),
    }
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use super::*;

    /// The message of the panic.
    fn refusal<T>(call: impl FnOnce() -> T) -> String {
        let panic = catch_unwind(AssertUnwindSafe(call)).err().expect("a wrong argument");
        panic.downcast_ref::<String>().expect("a sentence").clone()
    }

    #[test]
    fn a_wrong_argument_is_a_sentence() {
        let x = Tensor::from_slice2(&[[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]);
        type Reduction = fn(&Tensor, i64) -> Tensor;
        let reductions: [(&str, Reduction); 6] = [
            ("sum_axis", Tensor::sum_axis),
            ("mean_axis", Tensor::mean_axis),
            ("std_axis", Tensor::std_axis),
            ("max_axis", Tensor::max_axis),
            ("min_axis", Tensor::min_axis),
            ("argmax_axis", Tensor::argmax_axis),
        ];
        for (name, reduce) in reductions {
            for axis in [2, -3] {
                let expected =
                    format!("{name}: a tensor [2, 3] has no axis {axis}; give 0 to 1, or −1 to −2 from the end");
                assert_eq!(refusal(|| reduce(&x, axis)), expected);
            }
            assert!(refusal(|| reduce(&Tensor::from(1.0), 0)).contains("a single number without axes"), "{name}");
            assert_eq!(reduce(&x, -1).size(), [2], "{name}");
            assert_eq!(reduce(&x, -2).size(), [3], "{name}");
        }
        let empty = Tensor::from_slice::<f64>(&[]);
        assert_eq!(refusal(|| empty.max_axis(-1)), "max_axis: the tensor [0] has no values along axis -1");
        assert!(refusal(|| x.item()).starts_with("item: the tensor [2, 3] has 6 values; choose one with get"));
        assert!(refusal(|| x.largest_difference(&x.sum_axis(0))).contains("the tensors are [2, 3] and [3]"));
        assert!(refusal(|| empty.largest_difference(&empty)).contains("have no values"));
    }

    #[test]
    fn types_are_those_of_pytorch() {
        let halves = Tensor::from_slice(&[0.5f32, 1.0]);
        let mask = halves.gt(0.6);
        for (tensor, kind) in [
            (halves.sum_axis(0), Kind::Float),
            (halves.mean_axis(0), Kind::Float),
            (halves.std_axis(0), Kind::Float),
            (mask.sum_axis(0), Kind::Int64),
            (mask.mean_axis(0), Kind::Double),
            (mask.argmax_axis(0), Kind::Int64),
        ] {
            assert_eq!(tensor.kind(), kind);
        }
        assert_eq!(
            (mask.sum_axis(0).item(), mask.mean_axis(0).item(), mask.std_axis(0).item()),
            (1.0, 0.5, 0.5f64.sqrt())
        );
        assert!(Tensor::from_slice(&[f64::NAN, 1.0]).largest_difference(&Tensor::from_slice(&[0.0, 1.0])).is_nan());
    }
}

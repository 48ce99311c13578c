//! Tensors as views of storages, checked before they are made.

use std::collections::hash_map::{Entry, HashMap};

use tch::{Device, Tensor};

use super::pickle::{Storage, TensorView};
use crate::checkpoint::{StateDict, about_tensor, printable, tensor};
use crate::error::{Result, ensure};

/// Makes the tensors, and `load`s each of their storages once. Copies of all tensors may take `budget` bytes.
pub(super) fn tensors<'a>(
    views: Vec<(String, TensorView<'a>)>,
    mut budget: u64,
    mut load: impl FnMut(&Storage<'a>) -> Result<Tensor>,
) -> Result<StateDict> {
    let mut storages = HashMap::new();
    let mut tensors = Vec::new();
    for (name, view) in views {
        let (kind, storage) = match storages.entry(view.storage.key) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(new) => new.insert((view.storage.kind, load(&view.storage)?)),
        };
        let (same, key) = (*kind == view.storage.kind && storage.size() == [view.storage.len], view.storage.key);
        ensure!(same, "describes its storage data/{} in two ways; copy or save it again", printable(key));
        let tensor = view_of(storage, &view, &mut budget).map_err(about_tensor(&name))?;
        tensors.push((name, tensor));
    }
    StateDict::checked(tensors)
}

/// Creates the view without a copy, so that a file's tensors never take more memory than the file.
fn view_of(storage: &Tensor, view: &TensorView, budget: &mut u64) -> Result<Tensor> {
    let elements = tensor::elements(&view.size)?;
    ensure!(view.size.len() == view.stride.len() && view.offset >= 0, "has strides that don't match its shape");
    let last = view.size.iter().zip(&view.stride).try_fold(view.offset, |last, (&size, &stride)| {
        let span = (size - 1).max(0).checked_mul(stride)?;
        last.checked_add(span).filter(|_| stride >= 0)
    });
    let len = view.storage.len;
    let inside = elements == 0 || last.is_some_and(|last| last < len);
    ensure!(inside, "reaches beyond the {len} elements of its storage");
    let bytes = elements as u64 * view.storage.kind.elt_size_in_bytes() as u64;
    ensure!(bytes <= *budget, "repeats its elements without end (expand); save a copy of it");
    *budget -= bytes;
    // Strides and offset of an empty tensor are never used and may have any value in the file.
    Ok(if elements == 0 {
        Tensor::f_empty(&view.size, (view.storage.kind, Device::Cpu))?
    } else {
        storage.f_as_strided(&view.size, &view.stride, view.offset)?
    })
}

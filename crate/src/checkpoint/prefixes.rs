//! The names that wrappers around a model put before those of its tensors.

use super::StateDict;

/// `torch.nn.DataParallel`, `torch.compile`, and the attributes in which training scripts keep a model.
const WRAPPERS: [&str; 14] = [
    "module",
    "_orig_mod",
    "_forward_module",
    "_fsdp_wrapped_module",
    "model",
    "net",
    "network",
    "backbone",
    "vit",
    "deit",
    "dinov2",
    "visual",
    "student",
    "teacher",
];

/// Removes the wrappers that all names begin with, in any nesting. A head beside `backbone.` keeps both.
pub(super) fn remove_common(dict: &mut StateDict) {
    while let Some((first, _)) = dict.0.first()
        && let Some((wrapper, _)) = first.split_once('.')
        && WRAPPERS.contains(&wrapper)
    {
        let len = wrapper.len() + 1;
        let prefix = &first[..len];
        if !dict.0.iter().all(|(name, _)| name.len() > len && name.starts_with(prefix)) {
            return;
        }
        dict.0.iter_mut().for_each(|(name, _)| drop(name.drain(..len)));
    }
}

#[cfg(test)]
mod tests {
    use tch::Tensor;

    use super::*;

    #[test]
    fn only_what_all_names_share_is_removed() {
        for (names, expected) in [
            (vec!["module.fc.weight", "module.fc.bias"], vec!["fc.weight", "fc.bias"]),
            (vec!["model._orig_mod.module.a", "model._orig_mod.module.b"], vec!["a", "b"]),
            (vec!["module.backbone.norm.weight", "module.head.weight"], vec!["backbone.norm.weight", "head.weight"]),
            (
                vec!["vit.embeddings.cls_token", "classifier.weight"],
                vec!["vit.embeddings.cls_token", "classifier.weight"],
            ),
            (vec!["encoder.0.norm1.weight"], vec!["encoder.0.norm1.weight"]),
            (vec!["model.model", "model.net.x"], vec!["model", "net.x"]),
            (vec!["module.", "module.a"], vec!["module.", "module.a"]),
            (vec![], vec![]),
        ] {
            let mut dict = StateDict(names.iter().map(|name| (name.to_string(), Tensor::from(0.0))).collect());
            remove_common(&mut dict);
            assert_eq!(dict.0.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), expected);
        }
    }
}

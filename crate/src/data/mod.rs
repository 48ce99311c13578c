//! FashionMNIST: finding the files, reading them, augmenting and batching.

// SPDX-License-Identifier: GPL-2.0-only
//! The output of the commands below `audit`.

pub mod verify;

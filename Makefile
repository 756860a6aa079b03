# SPDX-License-Identifier: GPL-2.0-only
# Each target calls one program. It makes everything else itself, from nothing, in ~/.cache/iommuctl
# (IOMMUCTL_CACHE=... puts that elsewhere; IOMMUCTL_KVM=1 uses the processor's virtualization).

.PHONY: help demo check kmod-check test test-full model litmus fuzz bench module deb rpm arch sbom clean-cache

help: ## Show this
	@sed -n 's/^\([a-z-]*\):.*## /\1	/p' Makefile

demo: ## Show the main job in a virtual machine; the last line is "demo: PASS" or says why not
	@tests/testbed.sh demo

check: ## The quick checks: format, lints, unit and command-line tests, documentation; no root, no virtual machine
	@tests/testbed.sh check

kmod-check: ## The module's format and lints, and kmod/rust-project.json for editors
	@tests/testbed.sh kmod-check

test: ## Every check; the last line is the summary of the end-to-end suites
	@tests/testbed.sh test

test-full: ## The same, with the long forms of the suites
	@tests/testbed.sh test-full

model: ## Check the order of the module's protocols in every interleaving (MODEL_PREEMPTIONS=N|all: how deep)
	@tests/testbed.sh model

litmus: ## Check the memory ordering that the module relies on against the kernel's memory model
	@tests/testbed.sh litmus

fuzz: ## Look for texts that the policy's parser or planner cannot stand, FUZZ_SECONDS=N for each (60)
	@tests/testbed.sh fuzz

bench: ## Measure how fast it is, as text, JSON and a page with plots; fails if a claim about it clearly does not hold
	@tests/testbed.sh bench

module: ## Build iommu_live.ko for the newest kernel of Debian stable-backports
	@tests/testbed.sh module

deb: ## Build the Debian packages iommuctl and iommu-live-dkms
	@tests/testbed.sh deb

rpm: ## Build RPM packages of both, as for Fedora
	@tests/testbed.sh rpm

arch: ## Build packages of both for Arch Linux
	@tests/testbed.sh arch

sbom: ## List everything that is linked into iommuctl, as CycloneDX
	@tests/testbed.sh sbom

clean-cache: ## Remove everything that was made outside the checkout
	@tests/testbed.sh clean-cache

/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef IOMMUCTL_ORACLE_H
#define IOMMUCTL_ORACLE_H

#include <linux/mutex.h>
#include <linux/pci.h>

#define MOST_SPINNERS 4

/* A legacy transmit descriptor, as the device sees it. */
struct descriptor {
	__le64 address;
	__le32 command;
	__le32 status;
};

/* A page that is mapped, used, unmapped and used again. */
struct slot {
	struct page *page;
	struct descriptor *ring;
	dma_addr_t iova;
	u64 unmapped_at;
};

/* Figures of one probe, fire or hammer run. */
struct result {
	u64 probes;	   /* pages probed */
	u64 warmed;	   /* of these, reached while mapped: has to be all */
	u64 attempted;	   /* of these, the device did process the stale descriptor */
	u64 reached;	   /* of these, the device wrote into the unmapped page */
	u64 last_reached;  /* when the unmap of the last page reached returned, or 0 */
	u64 last_unmapped; /* when the last unmap returned */
	u64 first_unmapped;
	u64 longest_wait; /* longest time between an unmap and its probe */
};

/* What pages cost, in nanoseconds for all of them. */
struct cost {
	u64 map;
	u64 unmap;
};

struct oracle {
	struct pci_dev *pdev;
	void __iomem *regs;
	struct dentry *folder;
	/* Serialises everything below, and the device's registers. */
	struct mutex lock;
	struct result result;
	struct cost cost;
	struct slot *armed;
	unsigned int armed_count;
	struct task_struct *hammer;
	struct task_struct *spinners[MOST_SPINNERS];
};

/* All with the lock held. */
int slot_alloc(struct slot *s);
void slot_free(struct slot *s);
/* Maps the page and lets the device reach it, so that the IOTLB knows it. */
int warm(struct oracle *o, struct slot *s);
/* Lets the device use the page once more; true when it reached it. */
bool use_slot(struct oracle *o, struct slot *s);
/* Lets the device try to reach the page after its unmap. */
void probe_slot(struct oracle *o, struct slot *s);

void make_straggler_files(struct oracle *o);
/* Probes the pages of all stragglers that have returned. */
void fire_stragglers(struct oracle *o);
/* Releases and ends all stragglers. */
void stop_stragglers(struct oracle *o);

#endif

// SPDX-License-Identifier: GPL-2.0-only
/*
 * The stale-DMA oracle: what can a device still reach after dma_unmap_page()
 * has returned?
 *
 * It drives an emulated e1000 whose transmit ring lives in a page that is
 * mapped, used (so that the IOTLB knows it), unmapped, and then used again.
 * QEMU handles a write to TDT synchronously: it reads the descriptor, and
 * writes its status back, before the write returns. A status that appears in
 * the page after the unmap is a device reaching memory it no longer owns.
 *
 * The pages stay allocated all along, so a device that does reach them harms
 * nobody.
 *
 * debugfs, in /sys/kernel/debug/iommuctl_oracle/:
 *   probe   write N: map, warm, unmap and probe N pages one after another
 *   arm     write N: map and warm N pages, then unmap them all, probe nothing
 *   fire    write 1: probe every armed page
 *   hammer  write 1 / 0: probe continuously in a thread / stop
 *   result  read: the figures of the last probe, fire or hammer
 *   cost    write N: map and unmap N pages, and use none / read: what it cost
 *   flush   read: what one flush of the whole IOTLB of the card's domain costs
 *   spin    write N: N threads that never sleep, nor say that they might, as
 *           those of vhost and of io_uring's submission queues / 0: stop them
 * and those of stragglers.c.
 * Times are CLOCK_MONOTONIC, in nanoseconds.
 */
#include "oracle.h"

#include <linux/debugfs.h>
#include <linux/delay.h>
#include <linux/dma-mapping.h>
#include <linux/iommu.h>
#include <linux/kthread.h>
#include <linux/ktime.h>
#include <linux/module.h>
#include <linux/sched.h>
#include <linux/seq_file.h>
#include <linux/slab.h>
#include <linux/uaccess.h>

#define REG_TCTL 0x0400
#define REG_TDBAL 0x3800
#define REG_TDBAH 0x3804
#define REG_TDLEN 0x3808
#define REG_TDH 0x3810
#define REG_TDT 0x3818
#define REG_IMC 0x00d8

#define TCTL_ENABLE BIT(1)
/* Report status when this descriptor is done; no end of packet: nothing is sent. */
#define COMMAND_REPORT_STATUS BIT(27)
#define STATUS_DONE BIT(0)

#define RING_BYTES 128
#define MOST_ARMED 4096
/* Pages that are mapped before the first is unmapped, for their cost. */
#define BATCH 64

static void write_reg(struct oracle *o, u32 reg, u32 value)
{
	writel(value, o->regs + reg);
}

static void point_ring_at(struct oracle *o, dma_addr_t iova, u32 index)
{
	write_reg(o, REG_TDBAL, lower_32_bits(iova));
	write_reg(o, REG_TDBAH, upper_32_bits(iova));
	/* Head before tail: the device starts only when a tail write differs. */
	write_reg(o, REG_TDH, index);
	write_reg(o, REG_TDT, index);
}

/* Lets the device process descriptor `index`; true when it did. */
static bool kick(struct oracle *o, u32 index)
{
	write_reg(o, REG_TDT, index + 1);
	return readl(o->regs + REG_TDH) == index + 1;
}

static bool done(const struct slot *s, u32 index)
{
	return le32_to_cpu(READ_ONCE(s->ring[index].status)) & STATUS_DONE;
}

int slot_alloc(struct slot *s)
{
	s->page = alloc_page(GFP_KERNEL);
	if (!s->page)
		return -ENOMEM;
	s->ring = page_address(s->page);
	return 0;
}

void slot_free(struct slot *s)
{
	if (s->page)
		__free_page(s->page);
	s->page = NULL;
}

int warm(struct oracle *o, struct slot *s)
{
	unsigned int i;

	memset(s->ring, 0, RING_BYTES);
	for (i = 0; i < 2; i++)
		s->ring[i].command = cpu_to_le32(COMMAND_REPORT_STATUS);
	s->iova = dma_map_page(&o->pdev->dev, s->page, 0, PAGE_SIZE,
			       DMA_BIDIRECTIONAL);
	if (dma_mapping_error(&o->pdev->dev, s->iova))
		return -EIO;
	point_ring_at(o, s->iova, 0);
	if (kick(o, 0) && done(s, 0))
		o->result.warmed++;
	return 0;
}

bool use_slot(struct oracle *o, struct slot *s)
{
	WRITE_ONCE(s->ring[0].status, 0);
	point_ring_at(o, s->iova, 0);
	return kick(o, 0) && done(s, 0);
}

static void unmap(struct oracle *o, struct slot *s)
{
	dma_unmap_page(&o->pdev->dev, s->iova, PAGE_SIZE, DMA_BIDIRECTIONAL);
	s->unmapped_at = ktime_get_ns();
	if (!o->result.first_unmapped)
		o->result.first_unmapped = s->unmapped_at;
	o->result.last_unmapped = s->unmapped_at;
}

void probe_slot(struct oracle *o, struct slot *s)
{
	struct result *r = &o->result;

	point_ring_at(o, s->iova, 1);
	r->probes++;
	r->longest_wait = max(r->longest_wait, ktime_get_ns() - s->unmapped_at);
	if (kick(o, 1))
		r->attempted++;
	if (done(s, 1)) {
		r->reached++;
		r->last_reached = max(r->last_reached, s->unmapped_at);
	}
}

static int probe_once(struct oracle *o, struct slot *s)
{
	int err = warm(o, s);

	if (err)
		return err;
	unmap(o, s);
	probe_slot(o, s);
	return 0;
}

static void disarm(struct oracle *o)
{
	unsigned int i;

	for (i = 0; i < o->armed_count; i++)
		slot_free(&o->armed[i]);
	kvfree(o->armed);
	o->armed = NULL;
	o->armed_count = 0;
}

static int arm(struct oracle *o, unsigned int count)
{
	unsigned int i, warmed = 0;
	int err = 0;

	disarm(o);
	o->armed = kvcalloc(count, sizeof(*o->armed), GFP_KERNEL);
	if (!o->armed)
		return -ENOMEM;
	o->armed_count = count;
	for (i = 0; i < count && !err; i++)
		err = slot_alloc(&o->armed[i]);
	for (i = 0; i < count && !err; i++) {
		err = warm(o, &o->armed[i]);
		warmed += !err;
	}
	for (i = 0; i < warmed; i++)
		unmap(o, &o->armed[i]);
	if (err)
		disarm(o);
	return err;
}

static int hammer(void *data)
{
	struct oracle *o = data;
	struct slot s = {};
	int err = slot_alloc(&s);

	while (!err && !kthread_should_stop()) {
		mutex_lock(&o->lock);
		err = probe_once(o, &s);
		mutex_unlock(&o->lock);
		/*
		 * A thread that never sleeps holds up synchronize_rcu_tasks(),
		 * and with it every switch, for ever: nothing preempted here
		 * is inside an unmap, so say that.
		 */
		cond_resched_tasks_rcu_qs();
	}
	while (!kthread_should_stop())
		msleep(1);
	slot_free(&s);
	return err;
}

static int probe_many(struct oracle *o, unsigned int count)
{
	struct slot s = {};
	int err = slot_alloc(&s);

	while (!err && count--) {
		err = probe_once(o, &s);
		cond_resched_tasks_rcu_qs();
	}
	slot_free(&s);
	return err;
}

/*
 * Each handler is called with the lock held, and with the figures cleared
 * where a run begins.
 */
static int do_probe(struct oracle *o, unsigned int count)
{
	memset(&o->result, 0, sizeof(o->result));
	return probe_many(o, count);
}

static int do_arm(struct oracle *o, unsigned int count)
{
	if (!count || count > MOST_ARMED)
		return -EINVAL;
	memset(&o->result, 0, sizeof(o->result));
	return arm(o, count);
}

static int map_batch(struct oracle *o, struct page *page, unsigned int count)
{
	struct device *dev = &o->pdev->dev;
	dma_addr_t at[BATCH];
	u64 begin, mapped;
	unsigned int i, n;

	begin = ktime_get_ns();
	for (n = 0; n < count; n++) {
		at[n] = dma_map_page(dev, page, 0, PAGE_SIZE, DMA_FROM_DEVICE);
		if (dma_mapping_error(dev, at[n]))
			break;
	}
	mapped = ktime_get_ns();
	for (i = 0; i < n; i++)
		dma_unmap_page(dev, at[i], PAGE_SIZE, DMA_FROM_DEVICE);
	o->cost.map += mapped - begin;
	o->cost.unmap += ktime_get_ns() - mapped;
	return n == count ? 0 : -EIO;
}

static int do_cost(struct oracle *o, unsigned int count)
{
	struct page *page = alloc_page(GFP_KERNEL);
	int err = 0;

	if (!page)
		return -ENOMEM;
	memset(&o->cost, 0, sizeof(o->cost));
	while (!err && count) {
		unsigned int some = min(count, BATCH);

		err = map_batch(o, page, some);
		count -= some;
		cond_resched_tasks_rcu_qs();
	}
	__free_page(page);
	return err;
}

static int do_fire(struct oracle *o, unsigned int unused)
{
	unsigned int i;

	for (i = 0; i < o->armed_count; i++)
		probe_slot(o, &o->armed[i]);
	disarm(o);
	fire_stragglers(o);
	return 0;
}

static int do_hammer(struct oracle *o, unsigned int on)
{
	struct task_struct *task = o->hammer;

	if (on) {
		if (task)
			return -EBUSY;
		memset(&o->result, 0, sizeof(o->result));
		task = kthread_run(hammer, o, "iommuctl_oracle");
		if (IS_ERR(task))
			return PTR_ERR(task);
		o->hammer = task;
		return 0;
	}
	if (!task)
		return 0;
	o->hammer = NULL;
	/* The thread takes the lock for each probe. */
	mutex_unlock(&o->lock);
	kthread_stop(task);
	mutex_lock(&o->lock);
	return 0;
}

/* To tasks-RCU, one long stay in the kernel. It can be preempted. */
static int spin(void *unused)
{
	sched_set_normal(current, MAX_NICE);
	while (!kthread_should_stop())
		cpu_relax();
	return 0;
}

static int do_spin(struct oracle *o, unsigned int count)
{
	unsigned int i;

	if (count > MOST_SPINNERS)
		return -EINVAL;
	for (i = 0; i < MOST_SPINNERS; i++) {
		struct task_struct *task = o->spinners[i];

		if (i < count && !task) {
			task = kthread_run(spin, NULL, "spinner/%u", i);
			if (IS_ERR(task))
				return PTR_ERR(task);
			o->spinners[i] = task;
		} else if (i >= count && task) {
			o->spinners[i] = NULL;
			kthread_stop(task);
		}
	}
	return 0;
}

static ssize_t command(struct oracle *o, const char __user *from, size_t len,
		       int (*handler)(struct oracle *, unsigned int))
{
	unsigned int count;
	int err = kstrtouint_from_user(from, len, 0, &count);

	if (err)
		return err;
	mutex_lock(&o->lock);
	err = handler(o, count);
	mutex_unlock(&o->lock);
	return err ? err : len;
}

#define COMMAND_FILE(name)                                                     \
	static ssize_t name##_write(struct file *file,                         \
				    const char __user *from, size_t len,       \
				    loff_t *unused)                            \
	{                                                                      \
		return command(file->private_data, from, len, do_##name);                    \
	}                                                                      \
	static const struct file_operations name##_ops = {                     \
		.owner = THIS_MODULE,                                          \
		.open = simple_open,                                           \
		.write = name##_write,                                         \
	}

COMMAND_FILE(probe);
COMMAND_FILE(arm);
COMMAND_FILE(fire);
COMMAND_FILE(hammer);
COMMAND_FILE(spin);

static int cost_show(struct seq_file *file, void *unused)
{
	struct oracle *o = file->private;
	struct cost cost;

	mutex_lock(&o->lock);
	cost = o->cost;
	mutex_unlock(&o->lock);
	seq_printf(file, "map %llu\nunmap %llu\n", cost.map, cost.unmap);
	return 0;
}

static ssize_t cost_write(struct file *file, const char __user *from,
			  size_t len, loff_t *unused)
{
	struct seq_file *seq = file->private_data;

	return command(seq->private, from, len, do_cost);
}

static int cost_open(struct inode *inode, struct file *file)
{
	return single_open(file, cost_show, inode->i_private);
}

static const struct file_operations cost_ops = {
	.owner = THIS_MODULE,
	.open = cost_open,
	.read = seq_read,
	.write = cost_write,
	.llseek = seq_lseek,
	.release = single_release,
};

/* The least of some: whatever else the machine does comes on top. */
static int flush_show(struct seq_file *file, void *unused)
{
	struct oracle *o = file->private;
	struct iommu_domain *domain = iommu_get_domain_for_dev(&o->pdev->dev);
	u64 least = U64_MAX;
	int i;

	for (i = 0; domain && i < 8; i++) {
		u64 begin = ktime_get_ns();

		domain->ops->flush_iotlb_all(domain);
		least = min(least, ktime_get_ns() - begin);
	}
	seq_printf(file, "flush %llu\n", least);
	return 0;
}
DEFINE_SHOW_ATTRIBUTE(flush);

static int result_show(struct seq_file *file, void *unused)
{
	struct oracle *o = file->private;
	struct result r;

	mutex_lock(&o->lock);
	r = o->result;
	mutex_unlock(&o->lock);
	seq_printf(file, "probes %llu\nwarmed %llu\nattempted %llu\n", r.probes,
		   r.warmed, r.attempted);
	seq_printf(file, "reached %llu\nlast_reached %llu\n", r.reached,
		   r.last_reached);
	seq_printf(file, "first_unmapped %llu\nlast_unmapped %llu\n",
		   r.first_unmapped, r.last_unmapped);
	seq_printf(file, "longest_wait %llu\n", r.longest_wait);
	return 0;
}
DEFINE_SHOW_ATTRIBUTE(result);

static void make_files(struct oracle *o)
{
	o->folder = debugfs_create_dir("iommuctl_oracle", NULL);
	debugfs_create_file("probe", 0200, o->folder, o, &probe_ops);
	debugfs_create_file("arm", 0200, o->folder, o, &arm_ops);
	debugfs_create_file("fire", 0200, o->folder, o, &fire_ops);
	debugfs_create_file("hammer", 0200, o->folder, o, &hammer_ops);
	debugfs_create_file("spin", 0200, o->folder, o, &spin_ops);
	debugfs_create_file("result", 0400, o->folder, o, &result_fops);
	debugfs_create_file("cost", 0600, o->folder, o, &cost_ops);
	debugfs_create_file("flush", 0400, o->folder, o, &flush_fops);
	make_straggler_files(o);
}

static int oracle_probe(struct pci_dev *pdev, const struct pci_device_id *id)
{
	struct oracle *o;
	int err;

	o = devm_kzalloc(&pdev->dev, sizeof(*o), GFP_KERNEL);
	if (!o)
		return -ENOMEM;
	o->pdev = pdev;
	mutex_init(&o->lock);
	err = pcim_enable_device(pdev);
	if (err)
		return err;
	err = dma_set_mask_and_coherent(&pdev->dev, DMA_BIT_MASK(64));
	if (err)
		return err;
	o->regs = pcim_iomap(pdev, 0, 0);
	if (!o->regs)
		return -ENOMEM;
	pci_set_master(pdev);
	write_reg(o, REG_IMC, ~0);
	point_ring_at(o, 0, 0);
	write_reg(o, REG_TDLEN, RING_BYTES);
	write_reg(o, REG_TCTL, TCTL_ENABLE);
	pci_set_drvdata(pdev, o);
	make_files(o);
	return 0;
}

static void oracle_remove(struct pci_dev *pdev)
{
	struct oracle *o = pci_get_drvdata(pdev);

	debugfs_remove_recursive(o->folder);
	mutex_lock(&o->lock);
	do_hammer(o, 0);
	do_spin(o, 0);
	disarm(o);
	stop_stragglers(o);
	write_reg(o, REG_TCTL, 0);
	mutex_unlock(&o->lock);
	pci_clear_master(pdev);
}

/* Only devices that were given to this driver by name, through driver_override. */
static const struct pci_device_id oracle_ids[] = {
	{ PCI_DEVICE_DRIVER_OVERRIDE(PCI_VENDOR_ID_INTEL, 0x100e, 1) },
	{}
};

static struct pci_driver oracle_driver = {
	.name = "iommuctl_oracle",
	.id_table = oracle_ids,
	.probe = oracle_probe,
	.remove = oracle_remove,
};
module_pci_driver(oracle_driver);

MODULE_DESCRIPTION("Shows what a device can reach after an unmap has returned");
MODULE_LICENSE("GPL");

// SPDX-License-Identifier: GPL-2.0-only
/*
 * Stragglers made certain: tasks that are kept in the middle of an unmap for
 * as long as a test wants.
 *
 * debugfs, in /sys/kernel/debug/iommuctl_oracle/:
 *   hold     write "BATCH POINT COUNT": COUNT tasks unmap a page each, and
 *            stop at POINT (0 after the sample of the mode, 1 after the page
 *            table change, 2 before the lock of the ring, 3 with it, 4 nowhere,
 *            5 in the driver's own unmap entry, before the page table change)
 *   hold     read: a line "BATCH COUNT HELD RETURNED" for each batch
 *   points   read: a line with those that this kernel has
 *   touch    write BATCH: the device uses each page of a batch once more; none
 *            of them must be unmapped yet
 *   release  write BATCH: its tasks go on
 *   let_go   write BATCH: the same, and each page is probed as soon as its
 *            unmap has returned; the batch is forgotten
 *   own      write "BATCH POINT": the same, for one page, by the writing task
 *   contexts read: a line "task N interrupt N ring N": unmaps since the last
 *            write, of all devices, begun by a task, begun by an interrupt,
 *            and how many of both came to a ring of a flush queue
 *   contexts write 1: count from 0 again
 *   fire     also probes, and forgets, batches that have returned whole
 *   timer    write MS: how long the flush queue's timer waits, 0 as usual
 * `contexts`, `timer`, and the points 2 and 3 need a kernel with hold points; the
 * other points are made by diverting functions that each unmap calls.
 *
 * Whoever is held at point 0 takes whichever entry is published when it goes
 * on, and at point 1 it has changed the page table: a flush while it is held
 * covers it. Only at point 5, and only if the device uses the page again after
 * the flush, does it depend on what happens at the ring whether the device
 * reaches the page after the unmap.
 */
#include "oracle.h"

#include <linux/debugfs.h>
#include <linux/delay.h>
#include <linux/dma-mapping.h>
#include <linux/kprobes.h>
#include <linux/kthread.h>
#include <linux/ktime.h>
#include <linux/module.h>
#include <linux/preempt.h>
#include <linux/rcupdate.h>
#include <linux/sched.h>
#include <linux/seq_file.h>
#include <linux/slab.h>
#include <linux/uaccess.h>

#define BATCHES 8
#define MOST_HELD 1024

/* Of the kernel's test-only patch. */
extern void (*iommu_dma_hold)(int point);
extern unsigned int iommu_dma_hold_timer;

#define POINT_SAMPLED 0
#define POINT_CHANGED 1
#define POINT_AT_RING 2
#define POINT_ENTERED 5
#define POINTS 6

struct batch;

/* As many arguments as go in registers, whatever they are. */
typedef unsigned long function(unsigned long a, unsigned long b,
			       unsigned long c, unsigned long d,
			       unsigned long e, unsigned long f);

struct straggler {
	struct batch *batch;
	struct device *dev;
	struct slot slot;
	bool mapped;
	/* Set by its task, behind the unmap. */
	bool unmapped;
	bool probed;
	/* Where it was diverted from, and that it goes there now. */
	function *from;
	bool passing;
	struct task_struct *task;
};

/* Guarded by the oracle's lock, except what its tasks write. */
static struct batch {
	int point;
	unsigned int count;
	struct straggler *list;
	/* Who unmaps its page, when it is no thread of this module. */
	struct task_struct *owner;
	bool go;
	atomic_t held;
	atomic_t returned;
} batches[BATCHES];

static void (**hold_slot)(int point);
static unsigned int *timer_slot;

static atomic64_t by_task, by_interrupt, at_ring;

static void unmap(struct straggler *s)
{
	dma_unmap_page(s->dev, s->slot.iova, PAGE_SIZE, DMA_BIDIRECTIONAL);
	s->slot.unmapped_at = ktime_get_ns();
	smp_store_release(&s->unmapped, true);
	atomic_inc(&s->batch->returned);
}

static int straggle(void *data)
{
	struct straggler *s = data;

	/* Hundreds of them spin: everybody else comes first. */
	sched_set_normal(current, MAX_NICE);
	unmap(s);
	while (!kthread_should_stop())
		schedule_timeout_interruptible(HZ / 10);
	return 0;
}

/* The current task, when it is a straggler. */
static struct straggler *straggler_here(void)
{
	struct batch *b;

	if (current->flags & PF_KTHREAD)
		return kthread_func(current) == straggle ?
			       kthread_data(current) :
			       NULL;
	for (b = batches; b < batches + BATCHES; b++)
		if (READ_ONCE(b->owner) == current)
			return b->list;
	return NULL;
}

static void hold_at(struct batch *b, int point)
{
	if (b->point != point)
		return;
	atomic_inc(&b->held);
	/* No voluntary switch: to tasks-RCU this is one long unmap. */
	while (!READ_ONCE(b->go))
		cpu_relax();
	atomic_dec(&b->held);
}

/* The hook. */
static void hold_here(int point)
{
	struct straggler *s;

	if (point == POINT_SAMPLED)
		atomic64_inc(in_task() ? &by_task : &by_interrupt);
	if (point == POINT_AT_RING)
		atomic64_inc(&at_ring);
	/* Interrupts that unmap while a straggler is held run in its name. */
	s = in_task() ? straggler_here() : NULL;
	if (s)
		hold_at(s->batch, point);
}

/*
 * Functions that stragglers, and only they, are diverted from: to one that
 * runs as they do, may be preempted as they may, and calls the original.
 */
struct diverted {
	struct kprobe probe;
	function *to;
	bool active;
};

static unsigned long pass(struct straggler *s, function *on, unsigned long a,
			  unsigned long b, unsigned long c, unsigned long d,
			  unsigned long e, unsigned long f)
{
	WRITE_ONCE(s->passing, true);
	return on(a, b, c, d, e, f);
}

/* In place of a driver's unmap entry. */
static unsigned long enter(unsigned long a, unsigned long b, unsigned long c,
			   unsigned long d, unsigned long e, unsigned long f)
{
	struct straggler *s = straggler_here();

	hold_at(s->batch, POINT_ENTERED);
	return pass(s, s->from, a, b, c, d, e, f);
}

/* In place of iommu_unmap_fast(). */
static unsigned long unmap_fast(unsigned long a, unsigned long b,
				unsigned long c, unsigned long d,
				unsigned long e, unsigned long f)
{
	struct straggler *s = straggler_here();
	unsigned long unmapped;

	hold_at(s->batch, POINT_SAMPLED);
	unmapped = pass(s, s->from, a, b, c, d, e, f);
	hold_at(s->batch, POINT_CHANGED);
	return unmapped;
}

/* As in_task() was before the probe was hit, which may count as an NMI. */
static bool was_in_task(void)
{
	unsigned long interrupts = hardirq_count();

	if (in_nmi())
		interrupts -= HARDIRQ_OFFSET;
	return !interrupts && !in_serving_softirq();
}

/* The beginning of a function: the probe is behind its landing pad. */
static function *beginning(void *address)
{
#ifdef CONFIG_X86_KERNEL_IBT
	static const u8 endbr[] = { 0xf3, 0x0f, 0x1e, 0xfa };

	if (!memcmp(address - sizeof(endbr), endbr, sizeof(endbr)))
		address -= sizeof(endbr);
#endif
	return address;
}

static int divert(struct kprobe *probe, struct pt_regs *regs)
{
	struct straggler *s = was_in_task() ? straggler_here() : NULL;

	if (!s)
		return 0;
	if (READ_ONCE(s->passing)) {
		WRITE_ONCE(s->passing, false);
		return 0;
	}
	s->from = beginning(probe->addr);
	instruction_pointer_set(
		regs, (unsigned long)container_of(probe, struct diverted, probe)->to);
	return 1;
}

/* That there is one keeps the probe from being optimised to a jump. */
static void diverted(struct kprobe *probe, struct pt_regs *regs,
		     unsigned long flags)
{
}

#define DIVERTED(name, replacement)                                            \
	{                                                                      \
		.probe = { .symbol_name = name,                                \
			   .pre_handler = divert,                              \
			   .post_handler = diverted },                         \
		.to = replacement,                                             \
	}

/* The drivers' unmap entries, as far as there are such drivers here. */
static struct diverted entries[] = {
	DIVERTED("vtdss_unmap_range", enter),
	DIVERTED("x86_64_unmap_range", enter),
	DIVERTED("amdv1_unmap_range", enter),
	DIVERTED("viommu_unmap_pages", enter),
	DIVERTED("arm_smmu_unmap_pages", enter),
};

/* Only where the kernel has no hold points. */
static struct diverted whole = DIVERTED("iommu_unmap_fast", unmap_fast);

static bool points[POINTS] = { [4] = true };

static bool divert_from(struct diverted *d)
{
	/* One that was registered before has both a name and an address. */
	d->probe.addr = NULL;
	d->probe.flags = 0;
	d->active = !register_kprobe(&d->probe);
	return d->active;
}

static void divert_stragglers(void)
{
	struct diverted *d;

	for (d = entries; d < entries + ARRAY_SIZE(entries); d++)
		if (divert_from(d))
			points[POINT_ENTERED] = true;
	if (hold_slot) {
		memset(points, true, POINT_ENTERED);
	} else if (divert_from(&whole)) {
		points[POINT_SAMPLED] = true;
		points[POINT_CHANGED] = true;
	}
}

static void divert_no_more(void)
{
	struct diverted *d;

	for (d = entries; d < entries + ARRAY_SIZE(entries); d++)
		if (d->active)
			unregister_kprobe(&d->probe);
	if (whole.active)
		unregister_kprobe(&whole.probe);
	whole.active = false;
}

/* Lets every task of the batch finish its unmap, then forgets the batch. */
static void end_batch(struct oracle *o, struct batch *b)
{
	unsigned int i, tasks = !!b->owner;

	for (i = 0; i < b->count; i++)
		tasks += !!b->list[i].task;
	WRITE_ONCE(b->go, true);
	/* A task that is stopped before it ran would never unmap its page. */
	while (atomic_read(&b->returned) != tasks)
		msleep(1);
	for (i = 0; i < b->count; i++) {
		struct straggler *s = &b->list[i];

		if (s->task)
			kthread_stop(s->task);
		else if (s->mapped && !b->owner)
			dma_unmap_page(&o->pdev->dev, s->slot.iova, PAGE_SIZE,
				       DMA_BIDIRECTIONAL);
		slot_free(&s->slot);
	}
	kvfree(b->list);
	b->list = NULL;
	b->owner = NULL;
	b->count = 0;
	atomic_set(&b->held, 0);
	atomic_set(&b->returned, 0);
}

/* Maps the pages, and lets nobody unmap them yet. */
static int make_batch(struct oracle *o, struct batch *b, int point,
		      unsigned int count)
{
	unsigned int i;
	int err = 0;

	end_batch(o, b);
	b->list = kvcalloc(count, sizeof(*b->list), GFP_KERNEL);
	if (!b->list)
		return -ENOMEM;
	b->point = point;
	b->count = count;
	WRITE_ONCE(b->go, false);
	for (i = 0; i < count && !err; i++) {
		struct straggler *s = &b->list[i];

		s->batch = b;
		s->dev = &o->pdev->dev;
		err = slot_alloc(&s->slot);
		err = err ?: warm(o, &s->slot);
		s->mapped = !err;
	}
	if (err)
		end_batch(o, b);
	return err;
}

static int start_batch(struct oracle *o, struct batch *b, int point,
		       unsigned int count)
{
	int err = make_batch(o, b, point, count);
	unsigned int i;

	for (i = 0; i < count && !err; i++) {
		struct straggler *s = &b->list[i];

		s->task = kthread_run(straggle, s, "straggler/%u", i);
		if (IS_ERR(s->task)) {
			err = PTR_ERR(s->task);
			s->task = NULL;
			end_batch(o, b);
		}
	}
	return err;
}

void fire_stragglers(struct oracle *o)
{
	struct batch *b;
	unsigned int i;

	for (b = batches; b < batches + BATCHES; b++) {
		if (!b->count || atomic_read(&b->returned) != b->count)
			continue;
		for (i = 0; i < b->count; i++)
			probe_slot(o, &b->list[i].slot);
		end_batch(o, b);
	}
}

/* Lets the device use each page of the batch, and so the IOTLB know it. */
static int touch_batch(struct oracle *o, struct batch *b)
{
	unsigned int i;

	for (i = 0; i < b->count; i++) {
		if (READ_ONCE(b->list[i].unmapped))
			return -EBUSY;
		if (!use_slot(o, &b->list[i].slot))
			return -EIO;
	}
	return b->count ? 0 : -ENOENT;
}

/* Lets its tasks go on, and probes each page right after its unmap. */
static int let_batch_go(struct oracle *o, struct batch *b)
{
	u64 end = ktime_get_ns() + 60 * NSEC_PER_SEC;
	unsigned int i, probed = 0;

	WRITE_ONCE(b->go, true);
	while (probed < b->count) {
		unsigned int before = probed;

		for (i = 0; i < b->count; i++) {
			struct straggler *s = &b->list[i];

			if (s->probed || !smp_load_acquire(&s->unmapped))
				continue;
			probe_slot(o, &s->slot);
			s->probed = true;
			probed++;
		}
		if (probed != before)
			continue;
		if (ktime_get_ns() > end)
			return -ETIMEDOUT;
		usleep_range(20, 50);
	}
	if (!b->count)
		return -ENOENT;
	end_batch(o, b);
	return 0;
}

static int of_batch(struct oracle *o, u64 batch,
		    int (*work)(struct oracle *, struct batch *))
{
	int err;

	if (batch >= BATCHES)
		return -EINVAL;
	mutex_lock(&o->lock);
	err = work(o, &batches[batch]);
	mutex_unlock(&o->lock);
	return err;
}

static int touch_set(void *data, u64 batch)
{
	return of_batch(data, batch, touch_batch);
}
DEFINE_DEBUGFS_ATTRIBUTE(touch_fops, NULL, touch_set, "%llu\n");

static int let_go_set(void *data, u64 batch)
{
	return of_batch(data, batch, let_batch_go);
}
DEFINE_DEBUGFS_ATTRIBUTE(let_go_fops, NULL, let_go_set, "%llu\n");

static int points_show(struct seq_file *file, void *unused)
{
	unsigned int i;

	for (i = 0; i < POINTS; i++)
		if (points[i])
			seq_printf(file, "%u ", i);
	seq_puts(file, "\n");
	return 0;
}
DEFINE_SHOW_ATTRIBUTE(points);

static bool any_batch(void)
{
	struct batch *b;

	for (b = batches; b < batches + BATCHES; b++)
		if (b->count)
			return true;
	return false;
}

static ssize_t hold_write(struct file *file, const char __user *from,
			  size_t len, loff_t *unused)
{
	struct oracle *o = ((struct seq_file *)file->private_data)->private;
	unsigned int batch, point, count;
	char text[32] = {};
	int err;

	if (len >= sizeof(text) || copy_from_user(text, from, len))
		return -EINVAL;
	if (sscanf(text, "%u %u %u", &batch, &point, &count) != 3 ||
	    batch >= BATCHES || point >= POINTS || !points[point] || !count ||
	    count > MOST_HELD)
		return -EINVAL;
	mutex_lock(&o->lock);
	if (!any_batch())
		memset(&o->result, 0, sizeof(o->result));
	err = start_batch(o, &batches[batch], point, count);
	mutex_unlock(&o->lock);
	return err ?: len;
}

static ssize_t own_write(struct file *file, const char __user *from, size_t len,
			 loff_t *unused)
{
	struct oracle *o = file->private_data;
	unsigned int batch, point;
	struct batch *b;
	char text[32] = {};
	int err;

	if (len >= sizeof(text) || copy_from_user(text, from, len))
		return -EINVAL;
	if (sscanf(text, "%u %u", &batch, &point) != 2 || batch >= BATCHES ||
	    point >= POINTS || !points[point])
		return -EINVAL;
	b = &batches[batch];
	mutex_lock(&o->lock);
	if (!any_batch())
		memset(&o->result, 0, sizeof(o->result));
	err = make_batch(o, b, point, 1);
	if (!err)
		WRITE_ONCE(b->owner, current);
	mutex_unlock(&o->lock);
	if (!err)
		unmap(b->list);
	return err ?: len;
}

static const struct file_operations own_fops = {
	.owner = THIS_MODULE,
	.open = simple_open,
	.write = own_write,
};

static int contexts_show(struct seq_file *file, void *unused)
{
	seq_printf(file, "task %lld interrupt %lld ring %lld\n",
		   atomic64_read(&by_task), atomic64_read(&by_interrupt),
		   atomic64_read(&at_ring));
	return 0;
}

static int contexts_open(struct inode *inode, struct file *file)
{
	return single_open(file, contexts_show, NULL);
}

static ssize_t contexts_write(struct file *file, const char __user *from,
			      size_t len, loff_t *unused)
{
	atomic64_set(&by_task, 0);
	atomic64_set(&by_interrupt, 0);
	atomic64_set(&at_ring, 0);
	return len;
}

static const struct file_operations contexts_fops = {
	.owner = THIS_MODULE,
	.open = contexts_open,
	.read = seq_read,
	.write = contexts_write,
	.llseek = seq_lseek,
	.release = single_release,
};

static int hold_show(struct seq_file *file, void *unused)
{
	struct oracle *o = file->private;
	unsigned int i;

	mutex_lock(&o->lock);
	for (i = 0; i < BATCHES; i++)
		seq_printf(file, "%u %u %d %d\n", i, batches[i].count,
			   atomic_read(&batches[i].held),
			   atomic_read(&batches[i].returned));
	mutex_unlock(&o->lock);
	return 0;
}

static int hold_open(struct inode *inode, struct file *file)
{
	return single_open(file, hold_show, inode->i_private);
}

static const struct file_operations hold_fops = {
	.owner = THIS_MODULE,
	.open = hold_open,
	.read = seq_read,
	.write = hold_write,
	.llseek = seq_lseek,
	.release = single_release,
};

static int release_set(void *data, u64 batch)
{
	if (batch >= BATCHES)
		return -EINVAL;
	WRITE_ONCE(batches[batch].go, true);
	return 0;
}
DEFINE_DEBUGFS_ATTRIBUTE(release_fops, NULL, release_set, "%llu\n");

static int timer_set(void *data, u64 milliseconds)
{
	WRITE_ONCE(*timer_slot, milliseconds);
	return 0;
}
DEFINE_DEBUGFS_ATTRIBUTE(timer_fops, NULL, timer_set, "%llu\n");

static void use_hold_points(struct oracle *o)
{
	hold_slot = symbol_get(iommu_dma_hold);
	if (!hold_slot)
		return;
	timer_slot = symbol_get(iommu_dma_hold_timer);
	if (!timer_slot) {
		symbol_put(iommu_dma_hold);
		hold_slot = NULL;
		return;
	}
	WRITE_ONCE(*hold_slot, hold_here);
	debugfs_create_file("contexts", 0600, o->folder, o, &contexts_fops);
	debugfs_create_file("timer", 0200, o->folder, o, &timer_fops);
}

void make_straggler_files(struct oracle *o)
{
	use_hold_points(o);
	divert_stragglers();
	debugfs_create_file("hold", 0600, o->folder, o, &hold_fops);
	debugfs_create_file("points", 0400, o->folder, o, &points_fops);
	debugfs_create_file("touch", 0200, o->folder, o, &touch_fops);
	debugfs_create_file("own", 0200, o->folder, o, &own_fops);
	debugfs_create_file("release", 0200, o->folder, o, &release_fops);
	debugfs_create_file("let_go", 0200, o->folder, o, &let_go_fops);
}

void stop_stragglers(struct oracle *o)
{
	struct batch *b;

	for (b = batches; b < batches + BATCHES; b++)
		end_batch(o, b);
	divert_no_more();
	if (hold_slot) {
		WRITE_ONCE(*hold_slot, NULL);
		WRITE_ONCE(*timer_slot, 0);
	}
	/* Whoever is in a hook leaves before the text does. */
	synchronize_rcu_tasks();
	synchronize_rcu();
	if (hold_slot) {
		symbol_put(iommu_dma_hold_timer);
		symbol_put(iommu_dma_hold);
	}
}

// SPDX-License-Identifier: GPL-2.0-only
/*
 * Stragglers made certain: tasks that are kept in the middle of an unmap for
 * as long as a test wants. Needs a kernel with hold points; on any other
 * these files are missing.
 *
 * debugfs, in /sys/kernel/debug/iommuctl_oracle/:
 *   hold     write "BATCH POINT COUNT": COUNT tasks unmap a page each, and
 *            stop at POINT (0 after the sample of the mode, 1 after the page
 *            table change, 2 before the lock of the ring, 3 with it, 4 nowhere)
 *   hold     read: a line "BATCH COUNT HELD RETURNED" for each batch
 *   release  write BATCH: its tasks go on
 *   own      write "BATCH POINT": the same, for one page, by the writing task
 *   contexts read: a line "task N interrupt N ring N": unmaps since the last
 *            write, of all devices, begun by a task, begun by an interrupt,
 *            and how many of both came to a ring of a flush queue
 *   contexts write 1: count from 0 again
 *   fire     also probes, and forgets, batches that have returned whole
 *   timer    write MS: how long the flush queue's timer waits, 0 as usual
 */
#include "oracle.h"

#include <linux/debugfs.h>
#include <linux/delay.h>
#include <linux/dma-mapping.h>
#include <linux/kthread.h>
#include <linux/module.h>
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

struct batch;

struct straggler {
	struct batch *batch;
	struct device *dev;
	struct slot slot;
	bool mapped;
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

/* The batch of the current task, when it is a straggler. */
static struct batch *batch_here(void)
{
	struct batch *b;

	/* Interrupts that unmap while a straggler is held run in its name. */
	if (!in_task())
		return NULL;
	if (current->flags & PF_KTHREAD)
		return kthread_func(current) == straggle ?
			       ((struct straggler *)kthread_data(current))->batch :
			       NULL;
	for (b = batches; b < batches + BATCHES; b++)
		if (READ_ONCE(b->owner) == current)
			return b;
	return NULL;
}

/* The hook. */
static void hold_here(int point)
{
	struct batch *b = batch_here();

	if (point == 0)
		atomic64_inc(in_task() ? &by_task : &by_interrupt);
	if (point == 2)
		atomic64_inc(&at_ring);
	if (!b || b->point != point)
		return;
	atomic_inc(&b->held);
	/* No voluntary switch: to tasks-RCU this is one long unmap. */
	while (!READ_ONCE(b->go))
		cpu_relax();
	atomic_dec(&b->held);
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
	    batch >= BATCHES || point > 4 || !count || count > MOST_HELD)
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
	    point > 4)
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

void make_straggler_files(struct oracle *o)
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
	debugfs_create_file("hold", 0600, o->folder, o, &hold_fops);
	debugfs_create_file("own", 0200, o->folder, o, &own_fops);
	debugfs_create_file("contexts", 0600, o->folder, o, &contexts_fops);
	debugfs_create_file("release", 0200, o->folder, o, &release_fops);
	debugfs_create_file("timer", 0200, o->folder, o, &timer_fops);
}

void stop_stragglers(struct oracle *o)
{
	struct batch *b;

	if (!hold_slot)
		return;
	for (b = batches; b < batches + BATCHES; b++)
		end_batch(o, b);
	WRITE_ONCE(*hold_slot, NULL);
	WRITE_ONCE(*timer_slot, 0);
	/* Whoever is in the hook leaves before the text does. */
	synchronize_rcu_tasks();
	synchronize_rcu();
	symbol_put(iommu_dma_hold_timer);
	symbol_put(iommu_dma_hold);
}

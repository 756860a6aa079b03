// SPDX-License-Identifier: GPL-2.0-only

//! The comparison with what was audited: whatever means something is a difference, and nothing else
//! is.

use crate::audit_emit;
use crate::list::{Level, List};
use crate::source::File;

/// The file of a kernel, in the manner of the real ones.
const QUEUE: &str = r#"
/* The queue. */
#include <linux/queue.h>

#define LIMIT	256
#define ring_for_each(i, ring) \
	for ((i) = (ring)->head; (i) != (ring)->tail; (i)++)

struct ring {
	unsigned int head, tail;	// where to take, where to put
	unsigned int mask;
};

static void drain(struct ring *ring);
static int limit = LIMIT, other;

static inline bool full(struct ring *ring)
{
	return ((ring->tail + 1) & ring->mask) == ring->head;
}

#ifdef CONFIG_FAST
static void put(struct ring *ring, char mark) __must_hold(&ring->lock)
#else
static void put(struct ring *ring, char mark)
#endif
{
	if (full(ring)) {
		drain(ring);
#ifdef CONFIG_LOG
		if (mark == '}') {
			pr_info("full: \"}\"\n");
#else
		if (mark) {
#endif
		}
	}
	ring->tail++;
}

static size_t NS(unmap)(struct table *table, u64 at)
{
	return at ?: 1;
}

static const struct ops NS(ops) = {
	.unmap = NS(unmap),
};
EXPORT_SYMBOL_GPL(put);
"#;

const FILE: &str = "drivers/queue.c";
const WHAT: [&str; 9] = [
    "LIMIT",
    "ring_for_each",
    "struct ring",
    "limit",
    "full",
    "put",
    "unmap",
    "ops",
    "*mask",
];

fn read(text: &str) -> impl Fn(&str) -> Result<String, String> + '_ {
    move |file| match file {
        FILE => Ok(text.to_owned()),
        _ => Err("no such file".to_owned()),
    }
}

/// The list of a kernel that has [`QUEUE`].
fn list() -> List {
    let mut text = format!("series 7.3\nfile {FILE}\n");
    for what in WHAT {
        text += &format!("0000000000000000 {what}\n");
    }
    let names = List::parse(&text).unwrap();
    let text = names.list("7.3", &read(QUEUE)).unwrap();
    List::parse(&text).unwrap()
}

fn compare(text: &str) -> Level {
    list().compare("7.3", "x86", Some(&read(text)))
}

/// What a kernel differs in whose text has `new` in place of `old`.
fn difference(old: &str, new: &str) -> String {
    assert_eq!(QUEUE.matches(old).count(), 1, "{old}");
    let level = compare(&QUEUE.replace(old, new));
    assert!(
        matches!(level, Level::Different(..)),
        "{old} -> {new}: {level:?}"
    );
    match level {
        Level::Different(what, _) => what,
        _ => String::new(),
    }
}

fn same(old: &str, new: &str) {
    assert!(QUEUE.contains(old), "{old}");
    assert_eq!(
        compare(&QUEUE.replace(old, new)),
        Level::Audited,
        "{old:?} -> {new:?}"
    );
}

#[test]
fn each_thing_is_found_by_its_name() {
    let file = File::parse(QUEUE).unwrap();
    let text = |what: &str| file.text(what).unwrap();
    assert_eq!(text("LIMIT").trim(), "# define LIMIT 256");
    assert!(text("ring_for_each").contains("( i ) ++"));
    assert!(text("struct ring").ends_with("unsigned int mask ; } ;"));
    assert_eq!(text("limit"), "static int limit = LIMIT , other ;");
    assert!(text("full").starts_with("static inline bool full ("));
    assert!(text("put").ends_with("ring -> tail ++ ; }"));
    assert!(text("unmap").ends_with("return at ? : 1 ; }"));
    assert!(text("ops").starts_with("static const struct ops NS ( ops ) = {"));
    // A declaration is no definition, and what is only used is not defined.
    assert_eq!(file.text("drain"), None);
    assert_eq!(file.text("ring"), None);
    assert!(text("*drain").contains("static void put"));
    assert_eq!(file.text("*nothing"), None);
}

#[test]
fn comments_and_white_space_make_no_difference() {
    same("", "");
    same(";\n", "\n;\n\n");
    same("\t", "    ");
    same("{\n", "{ /* so\n * it is */\n");
    same(
        "\t// where to take, where to put",
        " /* \" */ // another word",
    );
    same("(ring->tail + 1)", "( ring -> tail+1 )");
    same("LIMIT\t256", "LIMIT /* of\n all */ 256");
    same(", ring) \\\n\tfor", ", ring) for");
    // What is not on the list may change.
    same("linux/queue.h", "linux/other.h");
    same("EXPORT_SYMBOL_GPL(put);", "");
    same(
        "static int limit",
        "static int more(void)\n{\n\treturn 0;\n}\nstatic int limit",
    );
}

#[test]
fn a_token_makes_a_difference_and_says_where() {
    let named = |what: &str| format!("{what} of {FILE}");
    assert_eq!(difference("tail + 1", "tail + 2"), named("full"));
    assert_eq!(difference("== ring->head", "!= ring->head"), named("full"));
    assert_eq!(
        difference("if (full(ring))", "if (!full(ring))"),
        named("put")
    );
    assert_eq!(difference("ring->tail++", "ring->tail+ +"), named("put"));
    assert_eq!(difference("mark == '}'", "mark == '{'"), named("put"));
    assert_eq!(difference("\"full:", "\"full: "), named("put"));
    assert_eq!(
        difference("#ifdef CONFIG_LOG", "#ifndef CONFIG_LOG"),
        named("put")
    );
    assert_eq!(difference("LIMIT\t256", "LIMIT\t255"), named("LIMIT"));
    assert_eq!(
        difference("ring_for_each(i, ring)", "ring_for_each (i, ring)"),
        named("ring_for_each")
    );
    assert_eq!(
        difference("int head, tail;", "int tail, head;"),
        named("struct ring")
    );
    assert_eq!(difference("= LIMIT,", "= 2 * LIMIT,"), named("limit"));
    assert_eq!(difference("at ?: 1", "at"), named("unmap"));
    assert_eq!(difference(".unmap =", ".map ="), named("ops"));
}

#[test]
fn a_new_user_is_a_difference() {
    let user =
        "static int reader(struct ring *ring)\n{\n\treturn ring->mask;\n}\n#ifdef CONFIG_FAST";
    assert_eq!(
        difference("#ifdef CONFIG_FAST", user),
        format!("the use of mask in {FILE}")
    );
}

#[test]
fn what_is_not_there_is_a_difference() {
    let other = "static inline bool fuller(struct ring *ring)";
    let found = difference("static inline bool full(struct ring *ring)", other);
    assert_eq!(found, format!("full of {FILE}, which it does not have"));
    let nowhere = |_: &str| Err("no such file".to_owned());
    let level = list().compare("7.3", "x86", Some(&nowhere));
    let reason = format!("{FILE}: no such file");
    assert_eq!(level, Level::Different(reason, WHAT.len() - 1));
    // Half a file is not compared.
    for broken in ["{", "}", ")", "/*", "\"", "#else\n", "#endif\n"] {
        let text = format!("{QUEUE}\n{broken}");
        assert!(matches!(compare(&text), Level::Different(..)), "{broken}");
    }
}

#[test]
fn series_and_source_decide_the_level() {
    let list = list();
    assert_eq!(list.compare("7.3", "x86", None), Level::Series);
    assert_eq!(list.compare("7.4", "x86", None), Level::Unknown);
    assert_eq!(
        list.compare("7.4", "x86", Some(&read(QUEUE))),
        Level::Unknown
    );
    for (release, series) in [
        ("7.3.4+deb13-amd64", "7.3"),
        ("7.10.0-rc1", "7.10"),
        ("7.3-iommuctl", "7.3"),
    ] {
        assert_eq!(audit_emit::series(release), series);
    }
}

#[test]
fn several_texts_can_be_allowed() {
    let both = QUEUE.replace("tail + 1", "1 + tail");
    let hash = |text: &str| {
        let only = format!("series 7.3\nfile {FILE}\n0000000000000000 full\n");
        let list = List::parse(&only).unwrap();
        list.list("7.3", &read(text)).unwrap()
    };
    let second = hash(&both);
    let second = second.lines().last().unwrap();
    let list = List::parse(&format!("{}{second}\n", hash(QUEUE))).unwrap();
    for text in [QUEUE, &both] {
        let level = list.compare("7.3", "x86", Some(&read(text)));
        assert_eq!(level, Level::Audited);
    }
}

#[test]
fn a_driver_of_another_architecture_does_not_count() {
    let text = list().list("7.3", &read(QUEUE)).unwrap();
    let text = text.replace(FILE, &format!("{FILE} arm64"));
    let list = List::parse(&text).unwrap();
    // Nor is it lost when the list is made anew.
    assert_eq!(list.list("7.3", &read(QUEUE)).unwrap(), text);
    let nowhere = |_: &str| Err("no such file".to_owned());
    let level = list.compare("7.3", "x86", Some(&nowhere));
    assert_eq!(level, Level::Audited);
    let level = list.compare("7.3", "arm64", Some(&nowhere));
    assert!(matches!(level, Level::Different(..)));
}

#[test]
fn a_list_that_is_wrong_says_where() {
    let error = |text: &str| List::parse(text).unwrap_err();
    assert_eq!(error(""), "there is no series");
    assert_eq!(error("series 7.3\n"), "series 7.3 has nothing");
    assert_eq!(error("0123456789abcdef f\n"), "line 1: before any series");
    assert_eq!(
        error("series 7.3\n0123456789abcdef f\n"),
        "line 2: before any file"
    );
    assert_eq!(
        error("series 7.3\nfile f\n012345 f\n"),
        "line 3: not a hash of 16 digits"
    );
    assert_eq!(
        error("series 7.3\nfile f\n+123456789abcdef f\n"),
        "line 3: not a hash of 16 digits"
    );
    assert_eq!(
        error("series 7.3\nfile f\n0123456789abcdef f\nseries 7.3\n"),
        "line 4: this series is there already"
    );
    assert_eq!(error("# nothing\nseries\n"), "line 2: one word alone");
}

#[test]
fn what_is_written_is_what_the_module_includes() {
    let level = Level::Different("full of drivers/queue.c".to_owned(), 2);
    assert_eq!(
        audit_emit::text(&level, "7.3"),
        "// SPDX-License-Identifier: GPL-2.0-only\n\
         // Generated by auditgen from the target kernel's source. Do not edit.\n\n\
         const LEVEL: Level = Level::Different;\n\
         const SENTENCE: &str = \"this kernel differs from the audited 7.3 in full of \
         drivers/queue.c, and in 2 more places\";\n\
         const INFORMATION: [u8; 107] = *b\"audit=different: this kernel differs from the \
         audited 7.3 in full of drivers/queue.c, and in 2 more places\\0\";\n"
    );
}

/// The list that is shipped: whole, and for each architecture the driver's functions.
#[test]
fn the_list_is_whole() {
    let text = include_str!("../../kmod/audited.txt");
    let list = List::parse(text).unwrap();
    for series in ["7.2", "7.3"] {
        assert_eq!(list.compare(series, "x86", None), Level::Series);
    }
    for file in list.files() {
        assert!(text.matches(file).count() >= 2, "{file} is in one series");
    }
    // What a driver is known by must have been read.
    for driver in [
        include_str!("../../kmod/src/drivers/amd.rs"),
        include_str!("../../kmod/src/drivers/arm_smmu_v3.rs"),
        include_str!("../../kmod/src/drivers/intel.rs"),
        include_str!("../../kmod/src/drivers/virtio.rs"),
    ] {
        let names = driver
            .lines()
            .filter(|line| ["flush_all:", "sync:"].iter().any(|key| line.contains(key)))
            .filter_map(|line| line.split('"').nth(1));
        for name in names {
            let line = format!(" {name}\n");
            assert_eq!(text.matches(&line).count(), 2, "{name}");
        }
    }
}

/* test_manifest.c - adapters that somebody vouched for, and all others */
/* SPDX-License-Identifier: Apache-2.0 */
#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "control/adapter_trust.h"
#include "control/manifest_keys.h"
#include "control/model_dir.h"
#include "tests/fake/fake_os.h"
#include "tests/suite.h"

/* The folder of one case; removed with all that is in it. */
static char root[64];

static int remove_one(
	const char *path, const struct stat *st, int kind, struct FTW *where)
{
	(void)st;
	(void)kind;
	(void)where;
	return remove(path);
}

static const char *in_root(const char *name)
{
	static char paths[4][512];
	static unsigned next;
	char *path = paths[next++ % 4];

	snprintf(path, sizeof(paths[0]), "%s/%s", root, name);
	return path;
}

static void put(const char *name, const void *bytes, size_t length)
{
	FILE *out = fopen(in_root(name), "w");

	assert(out);
	CU_ASSERT_EQUAL(fwrite(bytes, 1, length, out), length);
	fclose(out);
}

static void put_text(const char *name, const char *text)
{
	put(name, text, strlen(text));
}

static size_t get(const char *name, uint8_t *out, size_t size)
{
	FILE *in = fopen(in_root(name), "r");
	size_t length;

	assert(in);
	length = fread(out, 1, size, in);
	fclose(in);
	return length;
}

/* --- keys ---------------------------------------------------------------------------------- */

/* RFC 8032, 7.1, tests 1 to 3. */
static const struct vector {
	const char *secret, *key, *text, *signature;
} vectors[] = {
	{"9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
		"d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f70751"
		"1a",
		"",
		"e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901"
		"555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a"
		"100b"},
	{"4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
		"3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af466"
		"0c",
		"72",
		"92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69"
		"da085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb"
		"0c00"},
	{"c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7",
		"fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb9115489080"
		"25",
		"af82",
		"6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3"
		"ac18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1e"
		"c40a"},
};

#define VECTOR_COUNT (sizeof(vectors) / sizeof(vectors[0]))

static size_t unhex(const char *text, uint8_t *out)
{
	size_t count = strlen(text) / 2;

	for (size_t i = 0; i < count; i++) {
		const char digits[] = {text[2 * i], text[2 * i + 1], '\0'};

		out[i] = (uint8_t)strtoul(digits, NULL, 16);
	}
	return count;
}

/* PEM of the key pair of a vector: "who.key" and "who.pem". */
static void put_keys(const char *who, size_t vector)
{
	uint8_t raw[32];
	char name[64];
	EVP_PKEY *key;
	FILE *out;

	unhex(vectors[vector].secret, raw);
	key = EVP_PKEY_new_raw_private_key(
		EVP_PKEY_ED25519, NULL, raw, sizeof(raw));
	assert(key);
	snprintf(name, sizeof(name), "%s.key", who);
	out = fopen(in_root(name), "w");
	assert(out);
	CU_ASSERT_EQUAL(
		PEM_write_PrivateKey(out, key, NULL, NULL, 0, NULL, NULL), 1);
	fclose(out);
	snprintf(name, sizeof(name), "%s.pem", who);
	out = fopen(in_root(name), "w");
	assert(out);
	CU_ASSERT_EQUAL(PEM_write_PUBKEY(out, key), 1);
	fclose(out);
	EVP_PKEY_free(key);
}

static void begin(void)
{
	strcpy(root, "/tmp/test_manifest.XXXXXX");
	if (!mkdtemp(root))
		abort();
	put_keys("own", 0);
	put_keys("other", 1);
}

static void end(void)
{
	CU_ASSERT_EQUAL(nftw(root, remove_one, 8, FTW_DEPTH | FTW_PHYS), 0);
}

static void check_vector(size_t i)
{
	uint8_t text[8] = {0}, signature[64], made[64];
	size_t length = unhex(vectors[i].text, text);
	struct manifest_signer signer;
	struct manifest_keys keys;
	struct error err = {0};

	put_keys("vector", i);
	unhex(vectors[i].signature, signature);
	CU_ASSERT_EQUAL(
		manifest_keys_read(in_root("vector.pem"), &keys, &err), 0);
	CU_ASSERT_EQUAL(keys.count, 1);
	unhex(vectors[i].key, made);
	CU_ASSERT(manifest_keys_hold(&keys, made));
	CU_ASSERT_EQUAL(
		manifest_keys_verify(&keys, text, length, signature), 0);
	CU_ASSERT_EQUAL(
		manifest_signer_open(in_root("vector.key"), &signer, &err), 0);
	CU_ASSERT_EQUAL(memcmp(signer.public_key, made, 32), 0);
	CU_ASSERT_EQUAL(manifest_sign(&signer, text, length, made, &err), 0);
	CU_ASSERT_EQUAL(memcmp(made, signature, sizeof(made)), 0);
	manifest_signer_close(&signer);
	CU_ASSERT_EQUAL(
		manifest_keys_verify(&keys, text, length + 1, signature),
		-EBADMSG);
	for (uint32_t bit = 0; bit < 8 * sizeof(signature); bit++) {
		signature[bit / 8] ^= (uint8_t)(1u << bit % 8);
		CU_ASSERT_EQUAL(
			manifest_keys_verify(&keys, text, length, signature),
			-EBADMSG);
		signature[bit / 8] ^= (uint8_t)(1u << bit % 8);
	}
}

static void test_manifest_keys__rfc_8032(void)
{
	begin();
	for (size_t i = 0; i < VECTOR_COUNT; i++)
		check_vector(i);
	end();
}

static int read_keys(
	const char *name, struct manifest_keys *keys, const char *expected)
{
	struct error err = {0};
	int rc = manifest_keys_read(in_root(name), keys, &err);

	if (expected && !strstr(err.text, expected))
		printf("\"%s\" lacks \"%s\" ", err.text, expected);
	CU_ASSERT(!expected || strstr(err.text, expected) != NULL);
	CU_ASSERT_EQUAL(rc, err.code);
	return rc;
}

static void test_manifest_keys_read__files_and_directories(void)
{
	static uint8_t text[4096], many[65536];
	struct manifest_keys keys;
	size_t one, two;

	begin();
	one = get("own.pem", text, sizeof(text));
	two = one + get("other.pem", text + one, sizeof(text) - one);
	put("both", text, two);
	CU_ASSERT_EQUAL(read_keys("both", &keys, NULL), 0);
	CU_ASSERT_EQUAL(keys.count, 2);
	/* Words around keys are nothing, as in any PEM. */
	strcpy((char *)many, "our key:\n");
	memcpy(many + 9, text, one);
	put("words", many, 9 + one);
	CU_ASSERT_EQUAL(read_keys("words", &keys, NULL), 0);
	CU_ASSERT_EQUAL(keys.count, 1);
	CU_ASSERT_EQUAL(mkdir(in_root("keys"), 0700), 0);
	CU_ASSERT_EQUAL(read_keys("keys", &keys, "holds no *.pem"), -EINVAL);
	put("keys/a.pem", text, one);
	put("keys/b.pem", text, two);
	put_text("keys/.hidden.pem", "x");
	put_text("keys/readme", "x");
	CU_ASSERT_EQUAL(read_keys("keys", &keys, NULL), 0);
	CU_ASSERT_EQUAL(keys.count, 3);
	put_text("keys/c.pem", "x");
	CU_ASSERT_EQUAL(
		read_keys("keys", &keys, "c.pem: holds no public"), -EINVAL);
	CU_ASSERT_EQUAL(read_keys("none", &keys, "none: No such"), -ENOENT);
	CU_ASSERT_EQUAL(
		read_keys("own.key", &keys, "holds no public key"), -EINVAL);
	/* One that is cut. */
	put("cut", text, one - 30);
	CU_ASSERT_EQUAL(read_keys("cut", &keys, "cut: is no PEM"), -EINVAL);
	for (size_t i = 0; i < 65; i++)
		memcpy(many + i * one, text, one);
	put("many", many, 64 * one);
	CU_ASSERT_EQUAL(read_keys("many", &keys, NULL), 0);
	put("many", many, 65 * one);
	CU_ASSERT_EQUAL(read_keys("many", &keys, "more than 64"), -EINVAL);
	end();
}

static void test_manifest_keys_read__another_kind(void)
{
	EVP_PKEY *key = EVP_PKEY_Q_keygen(NULL, NULL, "X25519");
	struct manifest_signer signer;
	struct manifest_keys keys;
	struct error err = {0};
	FILE *out;

	begin();
	assert(key);
	out = fopen(in_root("x.pem"), "w");
	assert(out);
	CU_ASSERT_EQUAL(PEM_write_PUBKEY(out, key), 1);
	fclose(out);
	out = fopen(in_root("x.key"), "w");
	assert(out);
	CU_ASSERT_EQUAL(
		PEM_write_PrivateKey(out, key, NULL, NULL, 0, NULL, NULL), 1);
	fclose(out);
	EVP_PKEY_free(key);
	CU_ASSERT_EQUAL(read_keys("x.pem", &keys, "no ed25519"), -EINVAL);
	CU_ASSERT_EQUAL(
		manifest_signer_open(in_root("x.key"), &signer, &err), -EINVAL);
	CU_ASSERT_PTR_NOT_NULL(strstr(err.text, "no ed25519"));
	err = (struct error){0};
	CU_ASSERT_EQUAL(manifest_signer_open(in_root("own.pem"), &signer, &err),
		-EINVAL);
	CU_ASSERT_PTR_NOT_NULL(strstr(err.text, "no private key"));
	end();
}

static void test_manifest_signature_parse__one_way_to_write_it(void)
{
	uint8_t raw[64], out[64], text[92];
	struct error err = {0};

	unhex(vectors[0].signature, raw);
	CU_ASSERT_EQUAL(manifest_signature_parse(raw, 64, out, &err), 0);
	CU_ASSERT_EQUAL(memcmp(out, raw, 64), 0);
	CU_ASSERT_EQUAL(EVP_EncodeBlock(text, raw, 64), 88);
	for (size_t more = 0; more < 3; more++) {
		memcpy(text + 88, more == 1 ? "\n" : "\r\n", more);
		memset(out, 0, sizeof(out));
		CU_ASSERT_EQUAL(
			manifest_signature_parse(text, 88 + more, out, &err),
			0);
		CU_ASSERT_EQUAL(memcmp(out, raw, 64), 0);
	}
	for (size_t length = 0; length < 92; length++)
		if (length != 64 && length != 88 && length != 90)
			CU_ASSERT_EQUAL(manifest_signature_parse(
						text, length, out, NULL),
				-EINVAL);
	/* Bits that base64 does not need. */
	for (uint32_t i = 0; i < 88; i++)
		for (uint32_t bit = 0; bit < 8; bit++) {
			text[i] ^= (uint8_t)(1u << bit);
			CU_ASSERT(manifest_signature_parse(
					  text, 88, out, NULL) != 0 ||
				  memcmp(out, raw, 64) != 0);
			text[i] ^= (uint8_t)(1u << bit);
		}
}

/* --- manifests ------------------------------------------------------------------------------- */

#define HASH "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
#define ONE "{\"name\":\"a\",\"size\":1,\"sha256\":\"" HASH "\"}"

static void test_manifest_parse__what_is_wrong(void)
{
	static const struct {
		const char *text, *expected;
	} wrong[] = {
		{"{\n \"heddle-manifest\": 1,\n \"files\": [,]}",
			"line 3 column 12"},
		{"[]", "not a JSON object"},
		{"{\"files\":[" ONE "]}", "\"heddle-manifest\" is not 1"},
		{"{\"heddle-manifest\":2,\"files\":[" ONE "]}", "is not 1"},
		{"{\"heddle-manifest\":1}", "no list of \"files\""},
		{"{\"heddle-manifest\":1,\"files\":[]}", "no list"},
		{"{\"heddle-manifest\":1,\"files\":[1]}",
			"files[0]: is no object"},
		{"{\"heddle-manifest\":1,\"files\":[" ONE "],\"x\":1}",
			"\"x\" is not known"},
		{"{\"heddle-manifest\":1,\"files\":[" ONE "," ONE "]}",
			"files[1]: file \"a\" is there twice"},
		{"{\"heddle-manifest\":1,\"files\":[{\"size\":1}]}",
			"has no \"name\""},
		{"{\"heddle-manifest\":1,\"files\":[{\"name\":\"a\",\"sha256\":"
		 "\"" HASH "\"}]}",
			"\"a\" has no \"size\""},
		{"{\"heddle-manifest\":1,\"files\":[{\"name\":\"a\",\"size\":-"
		 "1,"
		 "\"sha256\":\"" HASH "\"}]}",
			"no \"size\""},
		{"{\"heddle-manifest\":1,\"files\":[{\"name\":\"a\",\"size\":1}"
		 "]}",
			"no \"sha256\" of 64"},
		{"{\"heddle-manifest\":1,\"files\":[{\"name\":\"a\",\"size\":1,"
		 "\"sha256\":\"" HASH "0\"}]}",
			"no \"sha256\""},
		{"{\"heddle-manifest\":1,\"files\":[{\"name\":\"a\",\"mode\":1}"
		 "]}",
			"\"mode\" is not known"},
		{"{\"heddle-manifest\":1,\"files\":[{\"name\":\"../a\"}]}",
			"holds a slash"},
		{"{\"heddle-manifest\":1,\"files\":[{\"name\":\"..\"}]}",
			"is a directory"},
		{"{\"heddle-manifest\":1,\"files\":[{\"name\":\"\"}]}",
			"1 to 255 bytes"},
		{"{\"heddle-manifest\":1,\"files\":[{\"name\":\"heddle-"
		 "manifest."
		 "json\"}]}",
			"cannot be in itself"},
		{"{\"heddle-manifest\":1,\"name\":\"a\\\\b\",\"files\":[" ONE
		 "]}",
			"\"name\" is no name"},
		{"{\"heddle-manifest\":1,\"key\":\"00\",\"files\":[" ONE "]}",
			"\"key\" is not of 64"},
		{"{\"heddle-manifest\":1,\"heddle-manifest\":1,\"files\":[" ONE
		 "]}",
			"duplicate"},
	};

	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		struct manifest manifest;
		struct error err = {0};
		int rc = manifest_parse(
			wrong[i].text, strlen(wrong[i].text), &manifest, &err);

		CU_ASSERT_EQUAL(rc, -EINVAL);
		if (!strstr(err.text, wrong[i].expected))
			printf("\"%s\" lacks \"%s\" ", err.text,
				wrong[i].expected);
		CU_ASSERT_PTR_NOT_NULL(strstr(err.text, wrong[i].expected));
	}
}

static void test_manifest_parse__limits(void)
{
	size_t size = (size_t)MANIFEST_BYTES_MAX + 1;
	char *text = suite_calloc(size, 1);
	struct manifest manifest;
	struct error err = {0};

	memset(text, ' ', size);
	text[0] = '{';
	CU_ASSERT_EQUAL(manifest_parse(text, size, &manifest, &err), -EINVAL);
	CU_ASSERT_PTR_NOT_NULL(strstr(err.text, "at most 1048576"));
	err = (struct error){0};
	memset(text, '{', 10000);
	CU_ASSERT_EQUAL(manifest_parse(text, 10000, &manifest, &err), -EINVAL);
	CU_ASSERT_PTR_NOT_NULL(strstr(err.text, "more than 4097 objects"));
	free(text);
}

/* --- directories ------------------------------------------------------------------------------- */

static void make_adapter(void)
{
	CU_ASSERT_EQUAL(mkdir(in_root("a"), 0700), 0);
	put_text("a/expert_cfg.json", "{\"experts\": {}}");
	put_text("a/config.json", "{}");
	put_text("a/m.safetensors", "weights");
	put_text("a/tokenizer.json", "not read");
}

static void sign_adapter(const char *who, const char *name)
{
	struct error err = {0};

	CU_ASSERT_EQUAL(
		adapter_trust_sign(in_root(who), name, in_root("a"), &err), 0);
	if (error_is_set(&err))
		printf("%s ", err.text);
}

static int open_as(const char *name, struct error *err)
{
	char keys[128];
	struct adapter_trust trust = {.keys = keys};
	struct adapter_files files;
	int rc;

	snprintf(keys, sizeof(keys), "%s", in_root("own.pem"));
	*err = (struct error){0};
	rc = adapter_trust_open(&trust, name, in_root("a"), &files, err);
	CU_ASSERT_EQUAL(rc, err->code);
	if (rc == 0)
		adapter_files_close(&files);
	else
		CU_ASSERT(files.experts.fd < 0 && !files.model.weights);
	return rc;
}

static void refuses(int code, const char *expected)
{
	struct error err;

	CU_ASSERT_EQUAL(open_as("law", &err), code);
	if (!strstr(err.text, expected))
		printf("\"%s\" lacks \"%s\" ", err.text, expected);
	CU_ASSERT_PTR_NOT_NULL(strstr(err.text, expected));
	CU_ASSERT_PTR_NOT_NULL(strstr(err.text, root));
}

static void accepts(void)
{
	struct error err;

	CU_ASSERT_EQUAL(open_as("law", &err), 0);
	if (error_is_set(&err))
		printf("%s ", err.text);
}

static void test_adapter_trust_open__good(void)
{
	struct adapter_trust trust = {.keys = ""};
	struct adapter_files files;
	struct error err = {0};
	uint8_t raw[64], text[88];
	char *content;
	size_t length;

	begin();
	make_adapter();
	/* Without keys nothing is asked for. */
	CU_ASSERT_EQUAL(
		adapter_trust_open(&trust, "law", in_root("a"), &files, &err),
		0);
	CU_ASSERT_FALSE(files.experts.has_hash);
	adapter_files_close(&files);
	sign_adapter("own.key", NULL);
	accepts();
	/* Again, in its place. */
	sign_adapter("own.key", "law");
	accepts();
	CU_ASSERT_EQUAL(get("a/heddle-manifest.sig", raw, sizeof(raw)), 64);
	CU_ASSERT_EQUAL(EVP_EncodeBlock(text, raw, 64), 88);
	put("a/heddle-manifest.sig", text, 88);
	accepts();
	trust.keys = in_root("own.pem");
	trust.root = root;
	CU_ASSERT_EQUAL_FATAL(
		adapter_trust_open(&trust, "law", "a", &files, &err), 0);
	CU_ASSERT(files.experts.has_hash && files.model.config.has_hash &&
		  files.model.weights[0].has_hash);
	CU_ASSERT_EQUAL(
		model_file_text(&files.experts, &content, &length, &err), 0);
	CU_ASSERT_STRING_EQUAL(content, "{\"experts\": {}}");
	free(content);
	CU_ASSERT_EQUAL(
		model_file_prove(&files.model.weights[0], NULL, &err), 0);
	adapter_files_close(&files);
	end();
}

static void test_adapter_trust_open__who_signed(void)
{
	uint8_t signature[128];
	size_t length;

	begin();
	make_adapter();
	refuses(-EPERM, "is not signed");
	sign_adapter("own.key", NULL);
	unlink(in_root("a/heddle-manifest.sig"));
	refuses(-EPERM, "heddle-manifest.sig: No such file");
	put_text("a/heddle-manifest.sig", "x");
	refuses(-EINVAL, "heddle-manifest.sig: is no ed25519 signature");
	put("a/heddle-manifest.sig", vectors[0].signature, 91);
	refuses(-EFBIG, "heddle-manifest.sig: 91 bytes, at most 90");
	sign_adapter("other.key", NULL);
	refuses(-EBADMSG, "is signed with key 3d4017c3e8");
	/* Of the right key, of other words. */
	length = get("a/heddle-manifest.sig", signature, sizeof(signature));
	sign_adapter("own.key", "law");
	put("a/heddle-manifest.sig", signature, length);
	refuses(-EBADMSG, "heddle-manifest.sig: bad signature");
	sign_adapter("own.key", "tax");
	refuses(-EINVAL, "is of an adapter that is called \"tax\"");
	sign_adapter("own.key", "law");
	accepts();
	unlink(in_root("own.pem"));
	refuses(-ENOENT, "adapter keys: ");
	end();
}

static void test_adapter_trust_open__what_the_directory_holds(void)
{
	begin();
	make_adapter();
	sign_adapter("own.key", NULL);
	put_text("a/more", "");
	refuses(-EINVAL, "a/more: is not in heddle-manifest.json");
	unlink(in_root("a/more"));
	CU_ASSERT_EQUAL(mkdir(in_root("a/folder"), 0700), 0);
	refuses(-EINVAL, "a/folder: is not in");
	rmdir(in_root("a/folder"));
	put_text("a/z.safetensors", "");
	refuses(-EINVAL, "a/z.safetensors: is not in");
	unlink(in_root("a/z.safetensors"));
	unlink(in_root("a/tokenizer.json"));
	refuses(-EINVAL, "a/tokenizer.json: is in heddle-manifest.json, but");
	CU_ASSERT_EQUAL(symlink("config.json", in_root("a/tokenizer.json")), 0);
	refuses(-EINVAL, "a/tokenizer.json: is a link");
	unlink(in_root("a/tokenizer.json"));
	CU_ASSERT_EQUAL(mkfifo(in_root("a/tokenizer.json"), 0600), 0);
	refuses(-EINVAL, "a/tokenizer.json: is not a regular file");
	unlink(in_root("a/tokenizer.json"));
	put_text("a/tokenizer.json", "not  read");
	refuses(-EINVAL, "a/tokenizer.json: has 9 bytes, heddle-manifest.json "
			 "says 8");
	put_text("a/tokenizer.json", "not read");
	accepts();
	put_text("a/m.safetensors", "weight");
	refuses(-EINVAL, "a/m.safetensors: has 6 bytes");
	rename(in_root("a/m.safetensors"), in_root("m"));
	CU_ASSERT_EQUAL(symlink("../m", in_root("a/m.safetensors")), 0);
	refuses(-EINVAL, "a/m.safetensors: is a link");
	unlink(in_root("a/m.safetensors"));
	put_text("a/m.safetensors", "weights");
	rename(in_root("a/heddle-manifest.json"), in_root("m"));
	CU_ASSERT_EQUAL(symlink("../m", in_root("a/heddle-manifest.json")), 0);
	refuses(-EINVAL, "a/heddle-manifest.json: is a link");
	unlink(in_root("a/heddle-manifest.json"));
	CU_ASSERT_EQUAL(truncate(in_root("m"), (1 << 20) + 1), 0);
	rename(in_root("m"), in_root("a/heddle-manifest.json"));
	refuses(-EFBIG, "a/heddle-manifest.json: 1048577 bytes, at most");
	end();
}

/* Signed by the right key, and nonsense all the same. */
static void test_adapter_trust_open__a_signed_bad_manifest(void)
{
	static const char text[] = "{\"heddle-manifest\":1,\n\"files\":[}";
	uint8_t signature[MANIFEST_SIGNATURE_BYTES];
	struct manifest_signer signer;
	struct error err = {0};

	begin();
	make_adapter();
	CU_ASSERT_EQUAL(
		manifest_signer_open(in_root("own.key"), &signer, &err), 0);
	CU_ASSERT_EQUAL(
		manifest_sign(&signer, text, sizeof(text) - 1, signature, &err),
		0);
	manifest_signer_close(&signer);
	put("a/heddle-manifest.json", text, sizeof(text) - 1);
	put("a/heddle-manifest.sig", signature, sizeof(signature));
	refuses(-EINVAL, "a/heddle-manifest.json: line 2 column 10");
	end();
}

static void flip_all(const char *name)
{
	static uint8_t bytes[4096];
	size_t length = get(name, bytes, sizeof(bytes));
	uint32_t accepted = 0;
	struct error err;

	for (size_t bit = 0; bit < 8 * length; bit++) {
		bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
		put(name, bytes, length);
		accepted += open_as("law", &err) == 0;
		CU_ASSERT(err.text[0] != '\0');
		bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
	}
	CU_ASSERT_EQUAL(accepted, 0);
	CU_ASSERT(length >= 64);
	put(name, bytes, length);
	accepts();
}

static void test_adapter_trust_open__every_bit_flipped(void)
{
	uint8_t raw[64], text[89];

	begin();
	make_adapter();
	sign_adapter("own.key", NULL);
	flip_all("a/heddle-manifest.json");
	flip_all("a/heddle-manifest.sig");
	CU_ASSERT_EQUAL(get("a/heddle-manifest.sig", raw, sizeof(raw)), 64);
	EVP_EncodeBlock(text, raw, 64);
	text[88] = '\n';
	put("a/heddle-manifest.sig", text, sizeof(text));
	flip_all("a/heddle-manifest.sig");
	end();
}

static void test_adapter_trust_open__every_byte(void)
{
	struct adapter_trust trust = {.every_byte = true};
	struct adapter_files files;
	struct error err = {0};

	begin();
	make_adapter();
	sign_adapter("own.key", NULL);
	trust.keys = in_root("own.pem");
	CU_ASSERT_EQUAL(
		adapter_trust_open(&trust, NULL, in_root("a"), &files, &err),
		0);
	adapter_files_close(&files);
	put_text("a/tokenizer.json", "not rEad");
	accepts();
	trust.keys = in_root("own.pem");
	CU_ASSERT_EQUAL(
		adapter_trust_open(&trust, NULL, in_root("a"), &files, &err),
		-EBADMSG);
	CU_ASSERT_PTR_NOT_NULL(
		strstr(err.text, "tokenizer.json: its SHA-256 is not"));
	end();
}

/* --- what happens after it was opened ---------------------------------------------------------- */

static void test_model_file_text__swapped_or_rewritten(void)
{
	char keys[128];
	struct adapter_trust trust = {.keys = keys};
	struct adapter_files files;
	struct error err = {0};
	char *text = NULL;
	size_t length;
	int fd;

	begin();
	make_adapter();
	sign_adapter("own.key", NULL);
	snprintf(keys, sizeof(keys), "%s", in_root("own.pem"));
	CU_ASSERT_EQUAL_FATAL(
		adapter_trust_open(&trust, "law", in_root("a"), &files, &err),
		0);
	/* Another file in its place is not looked at. */
	put_text("evil", "{\"experts\": 77}");
	rename(in_root("a/expert_cfg.json"), in_root("old"));
	rename(in_root("evil"), in_root("a/expert_cfg.json"));
	CU_ASSERT_EQUAL(
		model_file_text(&files.experts, &text, &length, &err), 0);
	CU_ASSERT_STRING_EQUAL(text, "{\"experts\": {}}");
	free(text);
	/* Other bytes in the same file are refused. */
	fd = open(in_root("old"), O_WRONLY | O_CLOEXEC);
	CU_ASSERT_EQUAL(pwrite(fd, "7", 1, 12), 1);
	CU_ASSERT_EQUAL(model_file_text(&files.experts, &text, &length, &err),
		-EBADMSG);
	CU_ASSERT_PTR_NOT_NULL(strstr(err.text, "expert_cfg.json: its SHA"));
	close(fd);
	adapter_files_close(&files);
	end();
}

#define LARGE_BYTES ((size_t)5 << 20)

/* A sink beside which somebody writes into the file. */
struct attack {
	uint8_t *got; /* [LARGE_BYTES] */
	size_t at; /* the offset of the chunk at which it happens */
	int fd;
};

static int take(void *arg, uint64_t offset, const uint8_t *data, size_t length)
{
	struct attack *attack = arg;
	static const uint8_t zeros[4096];

	memcpy(attack->got + offset, data, length);
	for (size_t at = 0; offset == attack->at && at < LARGE_BYTES;
		at += sizeof(zeros))
		if (pwrite(attack->fd, zeros, sizeof(zeros), (off_t)at) !=
			(ssize_t)sizeof(zeros))
			return -EIO;
	return 0;
}

/* At any moment: it is refused, or everything was read before. */
static void test_model_file_prove__rewritten_while_it_is_read(void)
{
	uint8_t *bytes = suite_calloc(LARGE_BYTES, 1);
	struct attack attack = {.got = suite_calloc(LARGE_BYTES, 1)};
	const struct file_sink sink = {take, &attack};
	struct model_file file = {.name = "large", .size_bytes = LARGE_BYTES};
	struct error err = {0};

	begin();
	memset(bytes, 'x', LARGE_BYTES);
	put("large", bytes, LARGE_BYTES);
	file.fd = open(in_root("large"), O_RDONLY | O_CLOEXEC);
	CU_ASSERT_EQUAL(model_file_hash(&file, NULL, file.hash, &err), 0);
	file.has_hash = true;
	for (size_t chunk = 0; chunk < 5; chunk++) {
		int rc;

		put("large", bytes, LARGE_BYTES);
		attack.fd = open(in_root("large"), O_WRONLY | O_CLOEXEC);
		attack.at = chunk << 20;
		rc = model_file_prove(&file, &sink, NULL);
		CU_ASSERT_EQUAL(rc, chunk < 4 ? -EBADMSG : 0);
		CU_ASSERT(rc || memcmp(bytes, attack.got, LARGE_BYTES) == 0);
		close(attack.fd);
	}
	CU_ASSERT_EQUAL(truncate(in_root("large"), 1000), 0);
	CU_ASSERT_EQUAL(model_file_prove(&file, NULL, &err), -EIO);
	CU_ASSERT_PTR_NOT_NULL(strstr(err.text, "large: ends early"));
	close(file.fd);
	free(attack.got);
	free(bytes);
	end();
}

/* --- faults -------------------------------------------------------------------------------------- */

static uint32_t descriptors(void)
{
	DIR *list = opendir("/proc/self/fd");
	uint32_t count = 0;

	assert(list);
	while (readdir(list))
		count++;
	closedir(list);
	return count;
}

static int try_sign(void)
{
	struct error err = {0};

	return adapter_trust_sign(
		in_root("own.key"), "law", in_root("a"), &err);
}

static int try_open(void)
{
	struct error err;
	int rc = open_as("law", &err);

	CU_ASSERT((rc != 0) == (err.text[0] != '\0'));
	return rc;
}

static int try_verify(void)
{
	char keys[128];
	struct adapter_trust trust = {.keys = keys, .every_byte = true};
	struct adapter_files files;
	struct error err = {0};
	int rc;

	snprintf(keys, sizeof(keys), "%s", in_root("own.pem"));
	rc = adapter_trust_open(&trust, "law", in_root("a"), &files, &err);
	if (rc == 0)
		adapter_files_close(&files);
	return rc;
}

static void check_faults(int (*try)(void))
{
	uint32_t before = descriptors(), failed = 0;

	for (uint64_t n = 1;; n++) {
		bool happened;
		int rc;

		fake_os_reset();
		fake_os_fail(FAKE_OS_ANY, n, EIO);
		rc = try();
		happened = fake_os_has_failed();
		fake_os_disarm();
		CU_ASSERT_EQUAL(fake_os_live().allocations, 0);
		CU_ASSERT_EQUAL(descriptors(), before);
		CU_ASSERT_EQUAL(rc != 0, happened);
		/* What was there is there. */
		accepts();
		if (!happened)
			break;
		failed++;
	}
	printf("%u faults; ", failed);
	CU_ASSERT(failed > 10);
}

static void test_adapter_trust__every_call_fails_once(void)
{
	begin();
	make_adapter();
	sign_adapter("own.key", "law");
	accepts();
	check_faults(try_open);
	check_faults(try_verify);
	check_faults(try_sign);
	end();
}

static void test_adapter_trust_sign__refuses(void)
{
	struct error err = {0};

	begin();
	make_adapter();
	CU_ASSERT_EQUAL(adapter_trust_sign(
				in_root("own.key"), "-x", in_root("a"), &err),
		-EINVAL);
	err = (struct error){0};
	CU_ASSERT_EQUAL(symlink("config.json", in_root("a/link")), 0);
	CU_ASSERT_EQUAL(adapter_trust_sign(
				in_root("own.key"), NULL, in_root("a"), &err),
		-EINVAL);
	CU_ASSERT_PTR_NOT_NULL(strstr(err.text, "a/link: is a link"));
	unlink(in_root("a/link"));
	err = (struct error){0};
	put_text("a/\xff", "");
	CU_ASSERT_EQUAL(adapter_trust_sign(
				in_root("own.key"), NULL, in_root("a"), &err),
		-EINVAL);
	CU_ASSERT_PTR_NOT_NULL(strstr(err.text, "no UTF-8"));
	unlink(in_root("a/\xff"));
	unlink(in_root("a/expert_cfg.json"));
	err = (struct error){0};
	CU_ASSERT_EQUAL(adapter_trust_sign(
				in_root("own.key"), NULL, in_root("a"), &err),
		-ENOENT);
	CU_ASSERT_PTR_NOT_NULL(strstr(err.text, "expert_cfg.json"));
	CU_ASSERT_NOT_EQUAL(access(in_root("a/heddle-manifest.json"), F_OK), 0);
	end();
}

int main(void)
{
	static const struct suite_case cases[] = {
		SUITE_CASE(manifest_keys__rfc_8032),
		SUITE_CASE(manifest_keys_read__files_and_directories),
		SUITE_CASE(manifest_keys_read__another_kind),
		SUITE_CASE(manifest_signature_parse__one_way_to_write_it),
		SUITE_CASE(manifest_parse__what_is_wrong),
		SUITE_CASE(manifest_parse__limits),
		SUITE_CASE(adapter_trust_open__good),
		SUITE_CASE(adapter_trust_open__who_signed),
		SUITE_CASE(adapter_trust_open__what_the_directory_holds),
		SUITE_CASE(adapter_trust_open__a_signed_bad_manifest),
		SUITE_CASE(adapter_trust_open__every_bit_flipped),
		SUITE_CASE(adapter_trust_open__every_byte),
		SUITE_CASE(model_file_text__swapped_or_rewritten),
		SUITE_CASE(model_file_prove__rewritten_while_it_is_read),
		SUITE_CASE(adapter_trust__every_call_fails_once),
		SUITE_CASE(adapter_trust_sign__refuses),
	};

	return SUITE_MAIN("manifest", cases);
}

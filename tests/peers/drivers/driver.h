/* What the C drivers share: a loop over lines, so that one process does thousands of things.
 *
 * A request is `act hex hex …` (an empty string is `-`), the answer one line: hex, or `!` if the
 * library refuses, or `?` if it does not have the algorithm. `bench act size milliseconds` answers
 * with acts per second of this thread's time on the processor.
 *
 * Private keys come as d‖04‖x‖y, public keys as 04‖x‖y.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

typedef struct {
    unsigned char *at;
    size_t len;
} bytes;

enum { MOST_ARGUMENTS = 5 };

/* What an act answers. */
enum { REFUSED = 0, DONE = 1, UNSUPPORTED = 2 };

/* Of the library: performs an act. `out` has `out->len` bytes of room, set to what was written. */
static int perform(const char *act, const bytes *in, int count, bytes *out);
/* Of the library: makes ready to repeat an act over `size` bytes, and repeats it. Acts: sign,
 * verify, seal, open, sm3, gcm. */
static int prepare(const char *act, size_t size);
static int repeat(void);

static void stop(const char *why)
{
    fprintf(stderr, "driver: %s\n", why);
    exit(2);
}

static int nibble(char c)
{
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    stop("an argument is no hex");
    return 0;
}

static bytes from_hex(const char *text)
{
    bytes out = { NULL, strcmp(text, "-") ? strlen(text) / 2 : 0 };
    out.at = malloc(out.len + 1);
    if (!out.at) stop("no memory");
    for (size_t i = 0; i < out.len; i++)
        out.at[i] = (unsigned char)(nibble(text[2 * i]) << 4 | nibble(text[2 * i + 1]));
    return out;
}

static double seconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static void bench(const char *act, size_t size, double length)
{
    int ready = prepare(act, size);
    if (ready == UNSUPPORTED) {
        puts("?");
        return;
    }
    if (ready != DONE) stop("cannot prepare");
    double begun = seconds(), passed = 0;
    uint64_t acts = 0, step = 1;
    while (passed < length) {
        for (uint64_t i = 0; i < step; i++)
            if (repeat() != DONE) stop("an act fails");
        acts += step;
        passed = seconds() - begun;
        /* The clock is asked a few hundred times in all. */
        if (passed < length / 200) step *= 2;
    }
    printf("%.3f\n", (double)acts / passed);
}

int main(void)
{
    char *line = NULL;
    size_t room = 0;
    while (getline(&line, &room, stdin) > 0) {
        line[strcspn(line, "\n")] = 0;
        char *act = strtok(line, " ");
        if (!act) stop("an empty line");
        if (!strcmp(act, "bench")) {
            char *what = strtok(NULL, " "), *size = strtok(NULL, " "), *length = strtok(NULL, " ");
            if (!length) stop("bench takes three arguments");
            bench(what, strtoul(size, NULL, 10), strtod(length, NULL) / 1000);
            fflush(stdout);
            continue;
        }
        bytes in[MOST_ARGUMENTS] = { 0 };
        int count = 0;
        size_t most = 1024;
        for (char *next; (next = strtok(NULL, " ")); count++) {
            if (count == MOST_ARGUMENTS) stop("too many arguments");
            in[count] = from_hex(next);
            most += 2 * in[count].len;
        }
        bytes out = { malloc(most), most };
        if (!out.at) stop("no memory");
        int answer = perform(act, in, count, &out);
        if (answer == DONE) {
            for (size_t i = 0; i < out.len; i++) printf("%02x", out.at[i]);
            puts(out.len ? "" : "-");
        } else {
            puts(answer == REFUSED ? "!" : "?");
        }
        fflush(stdout);
        free(out.at);
        for (int i = 0; i < count; i++) free(in[i].at);
    }
    free(line);
    return 0;
}

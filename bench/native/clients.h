/* Code shared by the load generators: the clock, error messages, and the summary of a run. */
#ifndef BENCH_CLIENTS_H
#define BENCH_CLIENTS_H

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#define MAX_SAMPLES (1 << 22)
#define PATIENCE 10.0 /* seconds */

static float *samples;
static long taken;

static double
now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static void
fail(const char *what)
{
    perror(what);
    exit(2);
}

static void
wrong(const char *what)
{
    fprintf(stderr, "wrong answer: %s\n", what);
    exit(1);
}

static void
sample(double seconds)
{
    if (taken < MAX_SAMPLES)
        samples[taken++] = (float)seconds;
}

static int
by_value(const void *a, const void *b)
{
    float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

static void
sort(float *values, long n)
{
    qsort(values, (size_t)n, sizeof *values, by_value);
}

/* Returns the one of N sorted values below which PART of them lie; 0 if there are none. */
static double
quantile(const float *values, long n, double part)
{
    long index = (long)((double)n * part);

    return n == 0 ? 0 : values[index < n ? index : n - 1];
}

static void
wait_for_begin(int count)
{
    printf("{\"ready\": %d}\n", count);
    fflush(stdout);
    for (int c = 0; c != '\n' && c != EOF;)
        c = getchar();
}

/* The head of load.c explains the figures. */
static void
sum_up(long requests, double seconds, long all, double late)
{
    static const char *names[] = {"p50", "p75", "p90", "p99", "p99.9", "p99.99", "max"};
    static const double parts[] = {.5, .75, .9, .99, .999, .9999, 1};

    sort(samples, taken);
    printf("{\"requests\": %ld, \"seconds\": %.6f, \"all\": %ld", requests, seconds, all);
    for (int i = 0; i < 7; i++)
        printf(", \"%s\": %.9f", names[i], quantile(samples, taken, parts[i]));
    printf(", \"late\": %.9f}\n", late);
}

#endif

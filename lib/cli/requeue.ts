import { execFile } from "node:child_process";
import { promisify } from "node:util";
import { slurmJob } from "../config.js";

/**
 * Asks Slurm to start this process's job again.
 *
 * @returns what to tell the user; null for a process that leaves it to another one of its job
 * @throws Error where Slurm refuses
 */
export async function requeue(): Promise<string | null> {
  const job = slurmJob();
  if (job === null) return "There is no Slurm job to requeue (SLURM_JOB_ID is not set); give the same command again to go on.";
  if (!job.first) return null;
  try {
    await promisify(execFile)("scontrol", ["requeue", job.id]);
  } catch (error) {
    const { stderr = "", message } = error as Error & { stderr?: string };
    throw new Error(
      `the job is not requeued: scontrol requeue ${job.id} failed (${stderr.trim() || message}); what is saved stays: give that command ` +
        "yourself, or submit the job again (jobs that may be requeued are submitted with --requeue)", { cause: error },
    );
  }
  return `Slurm job ${job.id} is requeued and goes on from there.`;
}

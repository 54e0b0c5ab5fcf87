import { readFileSync } from "node:fs";
import { writeDurably } from "../../checkpoint/files/durableFile.js";
import { MlflowError, type MlflowClient } from "./mlflowClient.js";

/** In a run's folder: which run of which server it is, so that a run that is resumed goes on in the same one. */
export const MLFLOW_FILE = "mlflow.json";

/** Limits of one request, and of names and values, that servers of all versions keep to. */
const MOST_METRICS = 1000;
const MOST_PARAMS = 100;
const LONGEST_KEY = 250;
const LONGEST_VALUE = 500;

export type MlflowStatus = "RUNNING" | "FINISHED" | "FAILED" | "KILLED";

/** One number of a run. */
export interface Metric {
  key: string;
  value: number;
  /** Milliseconds since 1970. */
  timestamp: number;
  step: number;
}

interface RunAnswer {
  run: { info: { run_id: string; lifecycle_stage?: string }; data: { params?: { key: string }[] } };
}

/** A run on a tracking server. */
export class MlflowRun {
  private constructor(private readonly client: MlflowClient, readonly id: string, private readonly knownParams: ReadonlySet<string>) {}

  /**
   * Goes on with the run that `file` names, where it is the server's and still there, or makes one and notes it.
   *
   * @param file null to note nothing
   */
  static async open(
    client: MlflowClient, { file, experiment, name, tags }: { file: string | null; experiment: string; name: string | null; tags: Record<string, string> },
    signal?: AbortSignal,
  ): Promise<MlflowRun> {
    const known = file === null ? null : readRunId(file, client.uri);
    if (known !== null) {
      const found = await MlflowRun.#find(client, known, signal);
      if (found !== null) {
        await found.setStatus("RUNNING", null, signal);
        return found;
      }
    }
    const experimentId = await experimentOf(client, experiment, signal);
    const { run } = await client.post<RunAnswer>("runs/create", {
      experiment_id: experimentId, start_time: Date.now(), ...(name === null ? {} : { run_name: name }),
      tags: Object.entries(tags).map(([key, value]) => ({ key, value })),
    }, signal);
    const text = `${JSON.stringify({ uri: client.uri, experiment, runId: run.info.run_id })}\n`;
    if (file !== null) await writeDurably(file, (sink) => sink.write(Buffer.from(text)));
    return new MlflowRun(client, run.info.run_id, new Set());
  }

  static async #find(client: MlflowClient, id: string, signal?: AbortSignal): Promise<MlflowRun | null> {
    try {
      const { run } = await client.get<RunAnswer>("runs/get", { run_id: id }, signal);
      if (run.info.lifecycle_stage === "deleted") return null;
      return new MlflowRun(client, id, new Set(run.data.params?.map(({ key }) => key)));
    } catch (error) {
      if (error instanceof MlflowError && error.code === "RESOURCE_DOES_NOT_EXIST") return null;
      throw error;
    }
  }

  /** Notes options. Those that the run has already stay: MLflow lets nobody change them. */
  async logParams(options: readonly (readonly [name: string, value: unknown])[], signal?: AbortSignal): Promise<void> {
    const params = options.map(([key, value]) => ({ key: validKey(key), value: String(value).slice(0, LONGEST_VALUE) }))
      .filter(({ key }) => !this.knownParams.has(key));
    for (let i = 0; i < params.length; i += MOST_PARAMS) {
      await this.client.post("runs/log-batch", { run_id: this.id, params: params.slice(i, i + MOST_PARAMS) }, signal);
    }
  }

  /** @param metrics at most {@link MlflowRun.mostMetrics} */
  async logMetrics(metrics: readonly Metric[], signal?: AbortSignal): Promise<void> {
    await this.client.post("runs/log-batch", { run_id: this.id, metrics: metrics.map((metric) => ({ ...metric, key: validKey(metric.key) })) }, signal);
  }

  /** Of one call. */
  static readonly mostMetrics = MOST_METRICS;

  async setStatus(status: MlflowStatus, endTime: number | null, signal?: AbortSignal): Promise<void> {
    await this.client.post("runs/update", { run_id: this.id, status, ...(endTime === null ? {} : { end_time: endTime }) }, signal);
  }
}

async function experimentOf(client: MlflowClient, name: string, signal?: AbortSignal): Promise<string> {
  const find = async (): Promise<string | null> => {
    try {
      const { experiment } = await client.get<{ experiment: { experiment_id: string } }>("experiments/get-by-name", { experiment_name: name }, signal);
      return experiment.experiment_id;
    } catch (error) {
      if (error instanceof MlflowError && error.code === "RESOURCE_DOES_NOT_EXIST") return null;
      throw error;
    }
  };
  const found = await find();
  if (found !== null) return found;
  try {
    return (await client.post<{ experiment_id: string }>("experiments/create", { name }, signal)).experiment_id;
  } catch (error) {
    // Another run has made it meanwhile.
    if (!(error instanceof MlflowError && error.code === "RESOURCE_ALREADY_EXISTS")) throw error;
    const made = await find();
    if (made === null) throw error;
    return made;
  }
}

/** MLflow takes letters, digits and `_-. /` in names. */
function validKey(name: string): string {
  return name.replaceAll(/[^\w\-. /]/g, "_").slice(0, LONGEST_KEY);
}

function readRunId(file: string, uri: string): string | null {
  try {
    const content = JSON.parse(readFileSync(file, "utf8")) as { uri?: unknown; runId?: unknown };
    return content.uri === uri && typeof content.runId === "string" ? content.runId : null;
  } catch {
    return null; // there is none, or it is damaged: the run gets another one
  }
}

/** The page: `draw(job)` draws a dashboard into it. */
import { createTheme, dateTime, ThemeContext, type GrafanaTheme2, type TimeRange } from '@grafana/data';
import { GlobalStyles, Icon, PortalContainer } from '@grafana/ui';
import { createRoot } from 'react-dom/client';
import type { JSX } from 'react';

import { configured, fillRegistries } from './fields';
import type { Drawn, Item, Job } from './model';
import { complete } from './options';
import { isEmpty, PanelView, type Configured } from './panel';

declare global {
  interface Window {
    draw: (job: Job) => Promise<Drawn>;
  }
}

window.draw = async (job) => {
  fillRegistries();
  const theme = createTheme({ colors: { mode: job.theme } });
  const panels = await Promise.all(
    job.items.flatMap((item) => (item.kind === 'panel' ? [configure(item, theme, job.timeZone)] : [])),
  );
  const from = dateTime(job.from);
  const to = dateTime(job.to);
  const root = document.createElement('div');
  document.body.append(root);
  createRoot(root).render(
    <ThemeContext.Provider value={theme}>
      <GlobalStyles />
      <Dashboard job={job} theme={theme} panels={panels} timeRange={{ from, to, raw: { from, to } }} />
      <PortalContainer />
    </ThemeContext.Provider>,
  );
  return { empty: panels.filter(isEmpty).map(({ panel }) => panel.title ?? '') };
};

async function configure(item: Item & { kind: 'panel' }, theme: GrafanaTheme2, timeZone: string): Promise<Configured> {
  const panel = complete(item.panel);
  return { place: item, panel, frames: await configured(panel, item.frames, theme, timeZone) };
}

interface DashboardProps {
  job: Job;
  theme: GrafanaTheme2;
  panels: Configured[];
  timeRange: TimeRange;
}

function Dashboard({ job, theme, panels, timeRange }: DashboardProps): JSX.Element {
  const { text, background, border } = theme.colors;
  const format = (at: TimeRange['from']) => (job.timeZone === 'utc' ? at.utc() : at).format('YYYY-MM-DD HH:mm:ss');
  return (
    <div
      style={{
        position: 'relative',
        width: job.width,
        height: job.height,
        background: background.canvas,
        overflow: 'hidden',
      }}
    >
      <style>{`.no-data { display: flex; align-items: center; justify-content: center; width: 100%; height: 100%; color: ${text.secondary}; }
        .chip { border: 1px solid ${border.weak}; border-radius: 2px; padding: 2px 8px; background: ${background.primary}; }`}</style>
      <header style={{ display: 'flex', alignItems: 'center', gap: 8, height: 48, padding: '0 16px', fontSize: 12 }}>
        <span style={{ fontSize: 18, fontWeight: 500, marginRight: 8 }}>{job.title}</span>
        {job.variables.map(({ label, value }) => (
          <span key={label} className="chip">
            <span style={{ color: text.secondary }}>{label}</span> {value}
          </span>
        ))}
        <span
          className="chip"
          style={{ marginLeft: 'auto' }}
        >{`${format(timeRange.from)} to ${format(timeRange.to)}`}</span>
      </header>
      {job.items.map((item, index) =>
        item.kind === 'row' ? (
          <h2
            key={index}
            style={{
              position: 'absolute',
              left: item.x,
              top: item.y,
              height: item.height,
              margin: 0,
              fontSize: 16,
              display: 'flex',
              alignItems: 'center',
              gap: 8,
            }}
          >
            <Icon name="angle-down" />
            {item.title}
          </h2>
        ) : null,
      )}
      {panels.map(({ place, panel, frames }, index) => (
        <div
          key={index}
          style={{ position: 'absolute', left: place.x, top: place.y, width: place.width, height: place.height }}
        >
          <PanelView {...{ place, panel, frames, theme, timeRange }} timeZone={job.timeZone} />
        </div>
      ))}
    </div>
  );
}

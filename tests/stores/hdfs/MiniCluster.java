import java.io.BufferedReader;
import java.io.File;
import java.io.InputStreamReader;
import org.apache.hadoop.conf.Configuration;
import org.apache.hadoop.fs.Path;
import org.apache.hadoop.hdfs.MiniDFSCluster;
import org.apache.hadoop.hdfs.protocol.HdfsConstants;
import org.apache.hadoop.hdfs.protocol.HdfsConstants.SafeModeAction;
import org.apache.hadoop.hdfs.server.datanode.DataNode;
import org.apache.hadoop.metrics2.AbstractMetric;
import org.apache.hadoop.metrics2.impl.MetricsCollectorImpl;
import org.apache.hadoop.metrics2.lib.DefaultMetricsSystem;

/**
 * Hadoop's own small cluster, one name node and three data nodes in this process, on loopback, in the folder that is
 * named. Prints the name node's address, does to it what the lines of its input say, each answered by "done" (or a count),
 * and ends when its input does.
 */
public final class MiniCluster {
    public static void main(String[] arguments) throws Exception {
        Configuration configuration = new Configuration();
        MiniDFSCluster cluster =
                new MiniDFSCluster.Builder(configuration, new File(arguments[0])).numDataNodes(3).build();
        cluster.waitActive();
        System.out.println("127.0.0.1:" + cluster.getNameNodePort());
        BufferedReader input = new BufferedReader(new InputStreamReader(System.in));
        for (String line = input.readLine(); line != null; line = input.readLine()) {
            if (line.equals("syncs")) {
                System.out.println(syncs(cluster));
            } else {
                change(cluster, line);
                System.out.println("done");
            }
        }
        // Nothing of it is needed any more.
        Runtime.getRuntime().halt(0);
    }

    /** How often all data nodes have put a block onto the disk. Not by JMX, which tells what was some seconds ago. */
    private static long syncs(MiniDFSCluster cluster) {
        long count = 0;
        for (DataNode node : cluster.getDataNodes()) {
            MetricsCollectorImpl metrics = new MetricsCollectorImpl();
            DefaultMetricsSystem.instance().getSource(node.getMetrics().name()).getMetrics(metrics, true);
            for (AbstractMetric metric : metrics.getRecords().get(0).metrics()) {
                count += metric.name().equals("FsyncCount") ? metric.value().longValue() : 0;
            }
        }
        return count;
    }

    private static void change(MiniDFSCluster cluster, String wanted) throws Exception {
        switch (wanted) {
            case "safe mode" -> cluster.getFileSystem().setSafeMode(SafeModeAction.SAFEMODE_ENTER);
            case "no safe mode" -> cluster.getFileSystem().setSafeMode(SafeModeAction.SAFEMODE_LEAVE);
            case "no new files" ->
                cluster.getFileSystem().setQuota(new Path("/faults"), 1, HdfsConstants.QUOTA_DONT_SET);
            case "no name node" -> cluster.shutdownNameNode(0);
            case "name node" -> cluster.restartNameNode(0);
            case "no data nodes" -> cluster.shutdownDataNodes();
            default -> throw new IllegalArgumentException(wanted);
        }
    }
}
